// Integer inner products by definition.
#pragma once
#include "contract/search.h"
#include "cpu/lanes/tile_32_bits.h"

namespace tilefold::cpu::ISA {
namespace {

constexpr int query_tile = 4;

// codes [dim / 4][32][4], queries [dim / 4][n_queries][4] -> out [n_queries][32], whatever the sums
// of squares
void tile(const uint8_t* codes, const int8_t* queries, int n_queries, int64_t dim, int64_t,
          int32_t* out) {
  for (int i = 0; i < n_queries * block_rows; ++i) out[i] = 0;
  for (int64_t step = 0; step < dim / 4; ++step)
    for (int q = 0; q < n_queries; ++q)
      for (int d = 0; d < block_rows; ++d)
        for (int j = 0; j < 4; ++j)
          out[q * block_rows + d] +=
              queries[(step * n_queries + q) * 4 + j] * codes[(step * block_rows + d) * 4 + j];
}

double peak_int8(int64_t rounds) {
  volatile int32_t a = 3;
  int32_t sum[4] = {};
  for (int64_t round = 0; round < rounds; ++round)
    for (int i = 0; i < 4; ++i) sum[i] += a * i;
  volatile int32_t kept = sum[0] + sum[1] + sum[2] + sum[3];
  (void)kept;
  return 2.0 * 4 * static_cast<double>(rounds);
}

}  // namespace
}  // namespace tilefold::cpu::ISA
