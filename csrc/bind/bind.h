// Each noun defines its functions of tilefold._native.
#pragma once
#include <pybind11/pybind11.h>

namespace tilefold::bind {

void define_rows(pybind11::module_& m);
void define_search(pybind11::module_& m);
void define_losses(pybind11::module_& m);
void define_statistics(pybind11::module_& m);
void define_locks(pybind11::module_& m);

}  // namespace tilefold::bind
