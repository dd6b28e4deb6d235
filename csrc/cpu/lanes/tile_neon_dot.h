// Integer inner products with a dot product instruction: 6 queries x 16 documents in 24
// accumulators, four registers of documents and two of queries. A step is four loads of documents,
// whose highest bit is flipped, and two of queries for 24 dot products.
#pragma once
#include "cpu/lanes/tile_signed.h"

namespace tilefold::cpu::ISA {
namespace {

constexpr int query_tile = 6;
constexpr int tile_registers = 4;  // of documents, four in each

// Multiplies N queries with 16 of the 32 documents of a block.
template <int N>
__attribute__((noinline)) void half_tile(const uint8_t* codes, const int8_t* queries, int64_t dim,
                                         int32_t* out) {
  int32x4_t sum[N][tile_registers];
  const int8_t* const starts = queries + dim * N;
#pragma GCC unroll 6
  for (int q = 0; q < N; ++q)
#pragma GCC unroll 4
    for (int r = 0; r < tile_registers; ++r) sum[q][r] = vdupq_n_s32(start_of(starts, q));
  for (int64_t j = 0; j < dim; j += 4, codes += 4 * block_rows, queries += 4 * N) {
    int8x16_t documents[tile_registers];
#pragma GCC unroll 4
    for (int r = 0; r < tile_registers; ++r) documents[r] = load_codes(codes + 16 * r);
#pragma GCC unroll 6
    for (int q = 0; q < N; ++q) {
      const int8x16_t query = broadcast_codes(queries + 4 * q);
#pragma GCC unroll 4
      for (int r = 0; r < tile_registers; ++r)
        sum[q][r] = vdotq_s32(sum[q][r], documents[r], query);
    }
  }
#pragma GCC unroll 6
  for (int q = 0; q < N; ++q)
#pragma GCC unroll 4
    for (int r = 0; r < tile_registers; ++r) vst1q_s32(out + q * block_rows + 4 * r, sum[q][r]);
}

template <int N>
void whole_tile(const uint8_t* codes, const int8_t* queries, int64_t dim, int32_t* out) {
  half_tile<N>(codes, queries, dim, out);
  half_tile<N>(codes + 64, queries, dim, out + 16);
}

// codes [dim / 4][32][4], packed queries [dim / 4 + 1][n_queries][4] -> out [n_queries][32],
// whatever the sums of squares
void tile(const uint8_t* codes, const int8_t* queries, int n_queries, int64_t dim, int64_t,
          int32_t* out) {
  tile_of<query_tile>(codes, queries, n_queries, dim, out);
}

// Every loop is unrolled, or the accumulators would stay in memory.
double peak_int8(int64_t rounds) {
  constexpr int chains = 16;
  int32x4_t sum[chains];
#pragma GCC unroll 16
  for (int i = 0; i < chains; ++i) sum[i] = vdupq_n_s32(i);
  int8x16_t a = vdupq_n_s8(1), b = vdupq_n_s8(2);
  for (int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 16
    for (int i = 0; i < chains; ++i) sum[i] = vdotq_s32(sum[i], a, b);
    __asm__("" : "+w"(a), "+w"(b));  // otherwise a loop of additions of constants
  }
  volatile int32_t kept;
#pragma GCC unroll 16
  for (int i = 0; i < chains; ++i) kept = vgetq_lane_s32(sum[i], 0);
  (void)kept;
  return 2.0 * 16 * chains * static_cast<double>(rounds);
}

}  // namespace
}  // namespace tilefold::cpu::ISA
