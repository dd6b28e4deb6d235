// IndexLock: a lock for many readers, one change at a time, and the writes of a change.
#pragma once
#include <pybind11/pybind11.h>

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <unordered_map>

namespace tilefold::bind {

namespace py = pybind11;

// Readers wait while a writer waits or writes, except within a reading of their own thread. Waiting
// threads run signal handlers; one that raises ends the wait.
class IndexLock {
 public:
  IndexLock();
  ~IndexLock();
  IndexLock(const IndexLock&) = delete;
  IndexLock& operator=(const IndexLock&) = delete;

  py::object reading(const py::function& function);
  py::object changing(const py::function& function);
  py::object writing(const py::function& function);
  bool is_read_here() const;
  bool is_changing() const { return state_->changing; }

 private:
  // The mutex is held for moments only, never while its thread waits for the GIL.
  struct State {
    std::mutex mutex;
    std::condition_variable changed;
    std::unordered_map<std::thread::id, int> readers;  // depth of each reading thread
    std::atomic<bool> changing{false};  // read by a forked child, which cannot take the mutex
    std::thread::id changer;
    bool writer = false;  // waits or writes
  };

  template <class Ready, class Take>
  void acquire(Ready ready, Take take);
  template <class Give>
  void release(Give give);

  std::unique_ptr<State> state_;
  int process_;
};

}  // namespace tilefold::bind
