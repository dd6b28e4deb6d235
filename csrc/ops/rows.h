// The rows of the CPU's ISA table, for tests, benchmarks and memory planning, and whether this build
// has CUDA kernels. Unlike the ops, these functions concern one implementation alone.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "pulse.h"
#include "view.h"

namespace tilefold::ops {

struct RowDescription {
  const char* name;
  const char* needs;
  bool supported, in_use;
  int query_tile, max_group_sum;
};
// Best row first.
std::vector<RowDescription> rows();

// Bytes that the candidate list of one query takes, however many documents there are; and the
// limits on the lists of a group of queries and of a search for few queries.
int64_t list_bytes(int64_t k);
extern const int64_t list_bytes_per_thread, list_bytes_together;

// Columns that a thread folds together, by which tests choose widths.
extern const int strip_columns;

// How this build has CUDA kernels: "compiled", "emulated" or "none".
const char* cuda_kernels();
const char* cuda_architectures();  // that they are compiled for, or ""

// Integer products of the row's tile, repeated `rounds` times.
struct TileRequest {
  View codes, queries, products;
  int64_t rounds;
};
void tile(const TileRequest& r, Pulse&);

// Peak arithmetic rate of one core on the row in use, in operations per second: fp32, int8 or bf16.
double peak(const std::string& kind);

}  // namespace tilefold::ops
