// Integer inner products without a dot product instruction. A multiply widens eight products to 16
// bits, where two fit: 2 * 128 * 127 = 32512. Eight dimensions of two documents cost four
// multiplies and two pairwise additions to 32 bits.
#pragma once
#include "cpu/lanes/tile_signed.h"

namespace tilefold::cpu::ISA {
namespace {

constexpr int query_tile = 4;
constexpr int tile_documents = 8;  // 4 x 4 accumulators, each with two sums of two documents

// Adds the products of a query with the documents of two registers in eight dimensions.
inline void add_products(int32x4_t* sum, const int8x16_t (&first)[2], const int8x16_t (&second)[2],
                         int8x16_t query, int8x16_t next) {
  for (int r = 0; r < 2; ++r) {
    const int16x8_t low = vmlal_s8(vmull_s8(vget_low_s8(first[r]), vget_low_s8(query)),
                                   vget_low_s8(second[r]), vget_low_s8(next));
    const int16x8_t high = vmlal_high_s8(vmull_high_s8(first[r], query), second[r], next);
    sum[2 * r] = vpadalq_s16(sum[2 * r], low);
    sum[2 * r + 1] = vpadalq_s16(sum[2 * r + 1], high);
  }
}

// Multiplies N queries with eight of the 32 documents of a block.
template <int N>
__attribute__((noinline)) void eight_documents(const uint8_t* codes, const int8_t* queries,
                                               int64_t dim, int32_t* out) {
  int32x4_t sum[N][4];
#pragma GCC unroll 4
  for (int q = 0; q < N; ++q)
#pragma GCC unroll 4
    for (int r = 0; r < 4; ++r) sum[q][r] = vdupq_n_s32(0);
  for (int64_t j = 0; j < dim; j += 8, codes += 8 * block_rows, queries += 8 * N) {
    const int8x16_t first[2] = {load_codes(codes), load_codes(codes + 16)};
    const int8x16_t second[2] = {load_codes(codes + 128), load_codes(codes + 144)};
#pragma GCC unroll 4
    for (int q = 0; q < N; ++q)
      add_products(sum[q], first, second, broadcast_codes(queries + 4 * q),
                   broadcast_codes(queries + 4 * (N + q)));
  }
#pragma GCC unroll 4
  for (int q = 0; q < N; ++q) {
    const int32x4_t start = vdupq_n_s32(start_of(queries, q));
    int32_t* const at = out + q * block_rows;
    vst1q_s32(at, vaddq_s32(start, vpaddq_s32(sum[q][0], sum[q][1])));
    vst1q_s32(at + 4, vaddq_s32(start, vpaddq_s32(sum[q][2], sum[q][3])));
  }
}

template <int N>
void whole_tile(const uint8_t* codes, const int8_t* queries, int64_t dim, int32_t* out) {
  for (int d = 0; d < block_rows; d += tile_documents)
    eight_documents<N>(codes + 4 * d, queries, dim, out + d);
}

// codes [dim / 4][32][4], packed queries [dim / 4 + 1][n_queries][4] -> out [n_queries][32],
// whatever the sums of squares
void tile(const uint8_t* codes, const int8_t* queries, int n_queries, int64_t dim, int64_t,
          int32_t* out) {
  tile_of<query_tile>(codes, queries, n_queries, dim, out);
}

// The instruction mix of the tile: two multiplies and a pairwise addition for 16 products.
double peak_int8(int64_t rounds) {
  constexpr int chains = 12;
  int32x4_t sum[chains];
#pragma GCC unroll 12
  for (int i = 0; i < chains; ++i) sum[i] = vdupq_n_s32(i);
  int8x8_t a = vdup_n_s8(1), b = vdup_n_s8(2);
  for (int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 12
    for (int i = 0; i < chains; ++i) {
      sum[i] = vpadalq_s16(sum[i], vmlal_s8(vmull_s8(a, b), b, a));
      __asm__("" : "+w"(a), "+w"(b));  // otherwise products are computed once for all chains
    }
  }
  volatile int32_t kept;
#pragma GCC unroll 12
  for (int i = 0; i < chains; ++i) kept = vgetq_lane_s32(sum[i], 0);
  (void)kept;
  return 2.0 * 16 * chains * static_cast<double>(rounds);
}

}  // namespace
}  // namespace tilefold::cpu::ISA
