// Binds what a program in Python cannot do safely: pairs of a lock's state and a function's run that
// no signal handler separates, and calls that the interpreter's end waits for.
//
// Ctrl-C, or any handler that raises, may interrupt Python before any of its instructions, also
// between the acquisition of a lock and the `try` that would release it, and within a `finally`. C++
// is not interrupted. So a lock takes the function that it protects, instead of having a method that
// acquires it and another that releases it.
#include "bind/bind.h"
#include "bind/exit_gate.h"
#include "bind/index_lock.h"

namespace tilefold::bind {

using namespace pybind11::literals;

void define_locks(py::module_& m) {
  py::class_<IndexLock>(m, "IndexLock",
                        "Lock for many readers, and one change at a time that writes now and then.")
      .def(py::init<>())
      .def("reading", &IndexLock::reading, "function"_a,
           "Returns function(), called while nobody writes. A thread may read within its reading.")
      .def("changing", &IndexLock::changing, "function"_a,
           "Returns function(), called while no other thread makes a change; others may read.")
      .def("writing", &IndexLock::writing, "function"_a,
           "Returns function(), called within a change while nobody reads; handlers of signals "
           "wait.")
      .def("is_read_here", &IndexLock::is_read_here, "Returns whether the calling thread reads.")
      .def("is_changing", &IndexLock::is_changing, "Returns whether a thread makes a change.");
  m.def("before_exit", &before_exit, "function"_a,
        "Returns function(), which the interpreter's end waits for. Once that has begun, other "
        "threads sleep here.");
  m.def("close_exit_gate", &close_exit_gate,
        "Waits for all calls of before_exit, and keeps other threads from beginning one.");
  py::module_::import("atexit").attr("register")(m.attr("close_exit_gate"));
}

}  // namespace tilefold::bind
