// Calls of libraries that would abort the process if the interpreter ended before they do.
#pragma once
#include <pybind11/pybind11.h>

#include <thread>

namespace tilefold::bind {

// The thread on whose behalf the calling one works; itself, unless it is a helper that stands in.
std::thread::id acting_thread();

class StandIn {
 public:
  explicit StandIn(std::thread::id thread);
  ~StandIn();
  StandIn(const StandIn&) = delete;
  StandIn& operator=(const StandIn&) = delete;

 private:
  std::thread::id before_;
};

// Returns function(). The interpreter's end waits for it; once that has begun, a thread that comes
// here sleeps until the process has ended.
pybind11::object before_exit(const pybind11::function& function);

// Waits for all calls of before_exit, and keeps other threads from beginning one.
void close_exit_gate();

}  // namespace tilefold::bind
