// The interpreter's lock (GIL): released around C++ that may take long, and taken to call Python.
//
// While the interpreter shuts down, CPython before 3.14 ends a thread that takes the GIL by
// pthread_exit. With glibc that unwinds the stack by an exception that must not be caught, so the
// process aborts where it meets a catch (...) or a destructor that takes the GIL. Here such a
// thread sleeps until the process has ended, as CPython lets it do since 3.14.
#pragma once
#include <pybind11/pybind11.h>

#include <chrono>
#include <exception>
#include <thread>

#ifdef __GLIBCXX__
#include <cxxabi.h>
#endif

namespace tilefold::bind {

namespace py = pybind11;

[[noreturn]] inline void sleep_until_exit() {
  for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
}

// Calls something that takes the GIL, such as Python code, which may do so at any time. The reference
// that is caught refers to nothing, which is no error, as it is not read; UBSan is asked to agree.
template <class Call>
#ifdef __GLIBCXX__
__attribute__((no_sanitize("null")))
#endif
auto outlive_interpreter(const Call& call) -> decltype(call()) {
#ifdef __GLIBCXX__
  try {
    return call();
  } catch (abi::__forced_unwind&) {
    sleep_until_exit();
  }
#else
  return call();
#endif
}

// The GIL, released until `take`. No destructor takes it, since that could not be survived.
class ReleasedGil {
 public:
  ReleasedGil() { release(); }
  void release() { state_ = PyEval_SaveThread(); }
  void take() {
    outlive_interpreter([this] { PyEval_RestoreThread(state_); });
  }

 private:
  PyThreadState* state_;
};

// Runs C++ without the GIL; its exceptions come through.
template <class Run>
void without_gil(const Run& run) {
  std::exception_ptr error;
  ReleasedGil gil;
  try {
    run(gil);
  } catch (...) {
    error = std::current_exception();
  }
  gil.take();
  if (error) std::rethrow_exception(error);
}

}  // namespace tilefold::bind
