// Calls of libraries that would abort the process if the interpreter ended before they do.
#pragma once
#include <pybind11/pybind11.h>

namespace tilefold::bind {

// Returns function(). The interpreter's end waits for it; once that has begun, a thread that comes
// here sleeps until the process has ended.
pybind11::object before_exit(const pybind11::function& function);

// Waits for all calls of before_exit, and keeps other threads from beginning one.
void close_exit_gate();

}  // namespace tilefold::bind
