// Integer inner products with VNNI: 12 queries x 32 documents in 24 accumulators. A step is two
// 64-byte loads and twelve broadcasts for 24 vpdpbusd. Around the intrinsic, which reads and writes
// its first operand, GCC 12 moves or spills accumulators and the tile drops to a third of its
// speed, so the instruction is written in assembly.
#pragma once
#include "contract/search.h"
#include "cpu/lanes/tile_32_bits.h"

namespace tilefold::cpu::ISA {
namespace {

constexpr int query_tile = 12;

inline __attribute__((always_inline)) void dot_add(__m512i& sum, __m512i codes, __m512i query) {
#if defined(__GNUC__) && !defined(TILEFOLD_EMULATE_AVX512)
  __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(codes), "v"(query));
#else
  sum = _mm512_dpbusd_epi32(sum, codes, query);
#endif
}

template <int N>
__attribute__((noinline)) void whole_tile(const uint8_t* codes, const int8_t* queries, int64_t dim,
                                          int32_t* out) {
  __m512i sum[N][2];
#pragma GCC unroll 12
  for (int q = 0; q < N; ++q) sum[q][0] = sum[q][1] = _mm512_setzero_si512();
  for (int64_t step = 0; step < dim / 4; ++step, codes += 128, queries += 4 * N) {
    const __m512i left = _mm512_loadu_si512(codes), right = _mm512_loadu_si512(codes + 64);
#pragma GCC unroll 12
    for (int q = 0; q < N; ++q) {
      int32_t bits;
      memcpy(&bits, queries + 4 * q, sizeof bits);
      const __m512i query = _mm512_set1_epi32(bits);
      dot_add(sum[q][0], left, query);
      dot_add(sum[q][1], right, query);
    }
  }
#pragma GCC unroll 12
  for (int q = 0; q < N; ++q) {
    _mm512_storeu_si512(out + q * block_rows, sum[q][0]);
    _mm512_storeu_si512(out + q * block_rows + 16, sum[q][1]);
  }
}

// codes [dim / 4][32][4], queries [dim / 4][n_queries][4] -> out [n_queries][32], whatever the sums
// of squares
void tile(const uint8_t* codes, const int8_t* queries, int n_queries, int64_t dim, int64_t,
          int32_t* out) {
  switch (n_queries) {
    case 1: return whole_tile<1>(codes, queries, dim, out);
    case 2: return whole_tile<2>(codes, queries, dim, out);
    case 3: return whole_tile<3>(codes, queries, dim, out);
    case 4: return whole_tile<4>(codes, queries, dim, out);
    case 5: return whole_tile<5>(codes, queries, dim, out);
    case 6: return whole_tile<6>(codes, queries, dim, out);
    case 7: return whole_tile<7>(codes, queries, dim, out);
    case 8: return whole_tile<8>(codes, queries, dim, out);
    case 9: return whole_tile<9>(codes, queries, dim, out);
    case 10: return whole_tile<10>(codes, queries, dim, out);
    case 11: return whole_tile<11>(codes, queries, dim, out);
    default: return whole_tile<12>(codes, queries, dim, out);
  }
}

// Every loop is unrolled, or the accumulators would stay in memory.
double peak_int8(int64_t rounds) {
  constexpr int chains = 12;
  __m512i sum[chains];
#pragma GCC unroll 12
  for (int i = 0; i < chains; ++i) sum[i] = _mm512_setzero_si512();
  const __m512i a = _mm512_set1_epi8(1), b = _mm512_set1_epi8(2);
  for (int64_t round = 0; round < rounds; ++round)
#pragma GCC unroll 12
    for (int i = 0; i < chains; ++i) dot_add(sum[i], a, b);
  int32_t lane[16];
  volatile int32_t kept;
#pragma GCC unroll 12
  for (int i = 0; i < chains; ++i) {
    _mm512_storeu_si512(lane, sum[i]);
    kept = lane[0];
  }
  (void)kept;
  return 2.0 * 64 * chains * static_cast<double>(rounds);
}

}  // namespace
}  // namespace tilefold::cpu::ISA
