// Integer inner products without an 8-bit dot product instruction. maddubs adds two products in 16
// bits and saturates. Two maddubs share one widening step, so that four products must fit: in each
// such group the positive codes of a query, and the negative ones, add up to at most 128, and
// 255 * 128 = 32640. 64 products cost three multiplies and two adds, 2.7 times the rate of fp32
// multiply-adds.
#pragma once
#include <immintrin.h>

#include "contract/search.h"

namespace tilefold::cpu::ISA {
namespace {

constexpr int query_tile = 4;
constexpr int max_group_sum = 128;

__m256i broadcast_4_codes(const int8_t* p) {
  int32_t bits;
  memcpy(&bits, p, sizeof bits);
  return _mm256_set1_epi32(bits);
}

// Multiplies N queries with 16 of the 32 documents of a block. Sixteen registers: 4 x 2
// accumulators, 4 of documents, 2 of queries, ones and a product.
template <int N>
__attribute__((noinline)) void half_tile(const uint8_t* codes, const int8_t* queries, int64_t dim,
                                         int32_t* out) {
  __m256i sum[N][2];
  for (int q = 0; q < N; ++q) sum[q][0] = sum[q][1] = _mm256_setzero_si256();
  const __m256i ones = _mm256_set1_epi16(1);
  for (int64_t step = 0; step < dim / 8; ++step, codes += 256, queries += 8 * N) {
    const __m256i* documents = reinterpret_cast<const __m256i*>(codes);
    const __m256i a0 = _mm256_loadu_si256(documents), a1 = _mm256_loadu_si256(documents + 1);
    const __m256i b0 = _mm256_loadu_si256(documents + 4), b1 = _mm256_loadu_si256(documents + 5);
#pragma GCC unroll 4
    for (int q = 0; q < N; ++q) {
      const __m256i first = broadcast_4_codes(queries + 4 * q);
      const __m256i second = broadcast_4_codes(queries + 4 * (N + q));
      const __m256i left =
          _mm256_add_epi16(_mm256_maddubs_epi16(a0, first), _mm256_maddubs_epi16(b0, second));
      sum[q][0] = _mm256_add_epi32(sum[q][0], _mm256_madd_epi16(left, ones));
      const __m256i right =
          _mm256_add_epi16(_mm256_maddubs_epi16(a1, first), _mm256_maddubs_epi16(b1, second));
      sum[q][1] = _mm256_add_epi32(sum[q][1], _mm256_madd_epi16(right, ones));
    }
  }
#pragma GCC unroll 4
  for (int q = 0; q < N; ++q)
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half)
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + q * block_rows + 8 * half),
                          sum[q][half]);
}

template <int N>
void whole_tile(const uint8_t* codes, const int8_t* queries, int64_t dim, int32_t* out) {
  half_tile<N>(codes, queries, dim, out);
  half_tile<N>(codes + 64, queries, dim, out + 16);
}

// codes [dim / 4][32][4], queries [dim / 4][n_queries][4] -> out [n_queries][32]
void tile(const uint8_t* codes, const int8_t* queries, int n_queries, int64_t dim, int32_t* out) {
  switch (n_queries) {
    case 1: return whole_tile<1>(codes, queries, dim, out);
    case 2: return whole_tile<2>(codes, queries, dim, out);
    case 3: return whole_tile<3>(codes, queries, dim, out);
    default: return whole_tile<4>(codes, queries, dim, out);
  }
}

// The instruction mix of the tile: two maddubs, an add, a widening madd and an add for 64 products.
double peak_int8(int64_t rounds) {
  constexpr int chains = 8;
  __m256i sum[chains];
  for (int i = 0; i < chains; ++i) sum[i] = _mm256_setzero_si256();
  __m256i a = _mm256_set1_epi8(1), b = _mm256_set1_epi8(2);
  const __m256i ones = _mm256_set1_epi16(1);
  for (int64_t round = 0; round < rounds; ++round) {
    __asm__("" : "+x"(a), "+x"(b));  // otherwise the products are computed only once
#pragma GCC unroll 8
    for (int i = 0; i < chains; ++i) {
      const __m256i pair = _mm256_add_epi16(_mm256_maddubs_epi16(a, b), _mm256_maddubs_epi16(b, a));
      sum[i] = _mm256_add_epi32(sum[i], _mm256_madd_epi16(pair, ones));
      __asm__("" : "+x"(a), "+x"(b));
    }
  }
  for (int i = 0; i < chains; ++i) __asm__ volatile("" : : "x"(sum[i]));
  return 2.0 * 64 * chains * static_cast<double>(rounds);
}

}  // namespace
}  // namespace tilefold::cpu::ISA
