#include "ops/rows.h"

#include <algorithm>
#include <chrono>
#include <limits>

#include "check.h"
#include "cpu/host/buffer.h"
#include "cpu/host/candidates.h"
#include "cpu/lanes/statistics_args.h"
#include "cpu/rows/table.h"
#include "kernels.h"
#include "ops/arguments.h"

namespace tilefold::ops {

std::vector<RowDescription> rows() {
  std::vector<RowDescription> result;
  const cpu::Row* active = &cpu::active_row();
  for (const cpu::Row* const* row = cpu::rows; *row; ++row)
    result.push_back({(*row)->name, (*row)->needs, (*row)->supported(), *row == active,
                      (*row)->search.query_tile, (*row)->search.max_group_sum});
  return result;
}

extern const int64_t list_bytes_per_thread = cpu::list_bytes_per_thread;
extern const int64_t list_bytes_together = cpu::list_bytes_together;
extern const int strip_columns = cpu::strip_columns;

const char* cuda_kernels() { return tilefold::cuda_kernels; }
const char* cuda_architectures() { return tilefold::cuda_architectures; }

int64_t list_bytes(int64_t k) {
  check(k >= 1, "list_bytes: k must be at least 1, got ", k);
  return cpu::Candidates::bytes_for(k, std::numeric_limits<int64_t>::max());
}

void tile(const TileRequest& r, Pulse&) {
  // queries are [dim / 4][n][4], codes [dim / 4][32][4]
  const cpu::SearchKernels& kernels = cpu::active_row().search;
  const int64_t dim = saturated_product(r.codes.rows(), 4);
  for (const View* array : {&r.codes, &r.queries, &r.products})
    check(array->device().type == DeviceType::cpu, "tile: ", array->name(), " must be on cpu, got ",
          device_name(array->device()));
  const uint8_t* codes = r.codes.read<uint8_t>(saturated_product(dim, block_rows));
  const int64_t n = r.products.rows();
  check(n >= 1 && n <= kernels.query_tile, "tile: expected 1 to ", kernels.query_tile,
        " queries, got ", n);
  check(dim % 8 == 0, "tile: dim must be a multiple of 8, got ", dim);
  const int8_t* query_codes = r.queries.read<int8_t>(dim * n);
  int32_t* products = r.products.write<int32_t>(n * block_rows);
  cpu::Buffer<uint8_t> block(dim * block_rows);
  std::copy_n(codes, dim * block_rows, block.data());
  const int64_t bytes = kernels.packed_query_bytes(dim);
  cpu::Buffer<int8_t> query(bytes), queries(n * bytes);
  int64_t squares = 0;
  for (int64_t q = 0; q < n; ++q) {
    for (int64_t j = 0; j < dim; j += 4)
      std::copy_n(query_codes + j * n + 4 * q, 4, query.data() + j);
    squares = std::max<int64_t>(squares, kernels.finish_query(query.data(), dim));
    for (int64_t j = 0; j < bytes; j += 4)
      std::copy_n(query.data() + j, 4, queries.data() + j * n + 4 * q);
  }
  squares *= kernels.shared_squares(block.data(), dim);
  for (int64_t round = 0; round < r.rounds; ++round)
    kernels.tile(block.data(), queries.data(), static_cast<int>(n), dim, squares, products);
}

double peak(const std::string& kind) {
  check(kind == "fp32" || kind == "int8" || kind == "bf16",
        "peak: kind must be fp32, int8 or bf16, got ", kind);
  const cpu::Row& row = cpu::active_row();
  const auto run = kind == "fp32" ? row.peak.fp32 : kind == "int8" ? row.peak.int8 : row.peak.bf16;
  check(run, "peak: the row '", row.name, "' multiplies bf16 as fp32");
  run(100000);  // brings the core to its clock rate
  const auto begin = std::chrono::steady_clock::now();
  const double operations = run(4000000);
  const std::chrono::duration<double> time = std::chrono::steady_clock::now() - begin;
  return operations / time.count();
}

}  // namespace tilefold::ops
