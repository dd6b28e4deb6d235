// The lanes of the avx512 row, with pairs of bf16: AVX-512 BF16.
#pragma once
#include "cpu/lanes/lanes_avx512.h"

namespace tilefold::cpu::ISA {
namespace {

using Pairs = __m512bh;

Pairs load_pairs(const Bfloat* p) { return (Pairs)_mm512_loadu_si512(p); }
// Copies one pair to every lane.
Pairs splat_pair(const Bfloat* p) {
  int32_t bits;
  memcpy(&bits, p, sizeof bits);
  return (Pairs)_mm512_set1_epi32(bits);
}
// sum + x[0] y[0] + x[1] y[1] in every lane; subnormals are treated as zeros. The instruction is
// written in assembly for the reason given in tile_avx512.h.
inline __attribute__((always_inline)) void dot_add(Floats& sum, Pairs x, Pairs y) {
#if defined(__GNUC__) && !defined(TILEFOLD_EMULATE_AVX512)
  __asm__("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(x), "v"(y));
#else
  sum = _mm512_dpbf16_ps(sum, x, y);
#endif
}
// Rounded to nearest, ties to even.
void store_narrowed(Bfloat* p, Floats a) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), (__m256i)_mm512_cvtneps_pbh(a));
}
void store_pairs(Bfloat* p, Floats a, Floats b) {
  const __m512i low = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(a));
  const __m512i high = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(b));
  _mm512_storeu_si512(p, _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
}

}  // namespace
}  // namespace tilefold::cpu::ISA
