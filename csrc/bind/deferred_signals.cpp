#include "bind/deferred_signals.h"

#include <csignal>
#include <exception>
#include <memory>
#include <vector>

#include "bind/gil.h"

namespace tilefold::bind {
namespace {

#ifdef NSIG
constexpr int n_signals = NSIG;
#else
constexpr int n_signals = 65;
#endif

// Replaces all handlers by one that notes the signal. Nothing here runs bytecode, and so nothing
// can be interrupted; but every call of `signal` begins by running handlers that are due.
class DeferredSignals {
 public:
  void begin() {
    const auto caught = caught_;
    const py::cpp_function note(
        [caught](int number, const py::object&) { caught->push_back(number); });
    for (int number = 1; number < n_signals; ++number) {
      const py::object handler = signals_.attr("getsignal")(number);
      if (!PyCallable_Check(handler.ptr())) continue;  // the default, ignored, or not of Python
      try {
        signals_.attr("signal")(number, note);
      } catch (py::error_already_set& error) {
        if (error.matches(PyExc_ValueError)) return;  // not the main thread
        throw;
      }
      replaced_.push_back({number, handler});
    }
  }

  // Restores the handlers, and runs those of the signals that came. Returns what they raise.
  std::exception_ptr end() {
    std::exception_ptr error;
    for (const Replaced& replaced : replaced_)
      while (!attempt("signal", error, replaced.number, replaced.handler)) {
      }
    for (const int number : *caught_) attempt("raise_signal", error, number);
    return error;
  }

 private:
  struct Replaced {
    int number;
    py::object handler;
  };

  // Returns false if a handler raised first.
  template <class... Arguments>
  bool attempt(const char* function, std::exception_ptr& error, const Arguments&... arguments) {
    try {
      signals_.attr(function)(arguments...);
      return true;
    } catch (py::error_already_set&) {
      error = std::current_exception();
      return false;
    }
  }

  // The functions in C; those of the module `signal` are wrapped in Python.
  py::module_ signals_ = py::module_::import("_signal");
  std::vector<Replaced> replaced_;
  std::shared_ptr<std::vector<int>> caught_ = std::make_shared<std::vector<int>>();
};

}  // namespace

py::object call_with_signals_deferred(const py::function& function) {
  DeferredSignals signals;
  py::object result;
  std::exception_ptr error;
  try {
    signals.begin();
    result = outlive_interpreter([&] { return function(); });
  } catch (...) {
    error = std::current_exception();
  }
  const std::exception_ptr later = signals.end();
  if (error || later) std::rethrow_exception(error ? error : later);
  return result;
}

}  // namespace tilefold::bind
