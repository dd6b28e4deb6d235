// Assembles tilefold._native, which is private: the public functions of the package call it.
#include <pybind11/pybind11.h>

#include "bind/bind.h"
#include "check.h"

namespace py = pybind11;

PYBIND11_MODULE(_native, m, py::mod_gil_not_used()) {
  m.doc() = "Kernels of tilefold. Private: use the functions of the package.";
  py::register_exception_translator([](std::exception_ptr error) {
    try {
      if (error) std::rethrow_exception(error);
    } catch (const tilefold::WrongType& wrong) {
      py::set_error(PyExc_TypeError, wrong.what());
    }
  });
  tilefold::bind::define_rows(m);
  tilefold::bind::define_search(m);
  tilefold::bind::define_losses(m);
  tilefold::bind::define_statistics(m);
  tilefold::bind::define_locks(m);
}
