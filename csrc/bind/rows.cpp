// Binds the rows of the CPU's ISA table, and the number of threads.
#include "bind/bind.h"
#include "bind/call.h"
#include "ops/rows.h"
#include "parallel.h"

namespace tilefold::bind {
namespace {

using namespace pybind11::literals;

py::list rows() {
  py::list result;
  for (const ops::RowDescription& row : ops::rows())
    result.append(py::dict("name"_a = row.name, "device"_a = "cpu", "needs"_a = row.needs,
                           "supported"_a = row.supported, "in_use"_a = row.in_use,
                           "query_tile"_a = row.query_tile, "max_group_sum"_a = row.max_group_sum));
  return result;
}

double peak(const std::string& kind) {
  double rate = 0;
  without_gil([&](ReleasedGil&) { rate = ops::peak(kind); });
  return rate;
}

void define_tile(py::module_& m) {
  using Request = ops::TileRequest;
  define<Request>(m, "tile", "Integer inner products of one block of codes with a few queries.",
                  &ops::tile,
                  positional(array(FIELD(codes)), array(FIELD(queries)), array(FIELD(products)),
                             value(FIELD(rounds), int64_t{1})),
                  keywords());
}

}  // namespace

void define_rows(py::module_& m) {
  m.attr("STRIP_COLUMNS") = ops::strip_columns;
  m.attr("LIST_BYTES_PER_THREAD") = ops::list_bytes_per_thread;
  m.attr("LIST_BYTES_TOGETHER") = ops::list_bytes_together;
  m.attr("CUDA") = ops::cuda_kernels();
  m.attr("CUDA_ARCHITECTURES") = ops::cuda_architectures();
  m.def("rows", &rows, "The ISA table of the CPU, best row first.");
  m.def("list_bytes", &ops::list_bytes, "k"_a, "Bytes of the candidate list of one query.");
  m.def("num_threads", &num_threads, "Number of threads of calls that give none.");
  m.def("set_num_threads", &set_num_threads, "n"_a,
        "Sets the number of threads of calls that give none.");
  m.def(
      "peak", &peak, "kind"_a,
      "Peak arithmetic rate of one core on the row in use: operations per second in fp32, int8 or "
      "bf16.");
  define_tile(m);
}

}  // namespace tilefold::bind
