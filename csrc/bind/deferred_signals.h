// Keeps signal handlers of Python from running while a function does.
#pragma once
#include <pybind11/pybind11.h>

namespace tilefold::bind {

// Returns function(). Handlers of signals that arrive meanwhile, which might raise anywhere in it,
// run at its end. On other threads than the main one no handler ever runs.
pybind11::object call_with_signals_deferred(const pybind11::function& function);

}  // namespace tilefold::bind
