// Eight fp32 or four fp64 lanes: AVX2 with FMA and F16C.
#pragma once
#include <immintrin.h>
#include <math.h>
#include <string.h>

#include <cstdint>

#include "contract/matrix.h"

namespace tilefold::cpu::ISA {
namespace {

constexpr int float_lanes = 8;
using Floats = __m256;

Floats load(const float* p) { return _mm256_loadu_ps(p); }
void store(float* p, Floats a) { _mm256_storeu_ps(p, a); }
Floats broadcast(float a) { return _mm256_set1_ps(a); }
// *p - minus, in integers
Floats from_ints(const int32_t* p, int32_t minus) {
  const __m256i a = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return _mm256_cvtepi32_ps(_mm256_sub_epi32(a, _mm256_set1_epi32(minus)));
}
Floats add(Floats a, Floats b) { return _mm256_add_ps(a, b); }
Floats sub(Floats a, Floats b) { return _mm256_sub_ps(a, b); }
Floats mul(Floats a, Floats b) { return _mm256_mul_ps(a, b); }
Floats divide(Floats a, Floats b) { return _mm256_div_ps(a, b); }
Floats multiply_add(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a, b, c); }
float multiply_add(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
Floats maximum(Floats a, Floats b) { return _mm256_max_ps(a, b); }
Floats minimum(Floats a, Floats b) { return _mm256_min_ps(a, b); }
// 1 where a > b, else 0
Floats exceeds(Floats a, Floats b) {
  return _mm256_and_ps(_mm256_cmp_ps(a, b, _CMP_GT_OQ), _mm256_set1_ps(1));
}
Floats absolute(Floats a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
Floats nearest(Floats a) {
  return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
// 2^n for integers n from -126 to 127
Floats power_of_two(Floats n) {
  const __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
  return _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23));
}
// floor(log2(a)) of positive normal numbers
Floats exponent(Floats a) {
  const __m256i bits = _mm256_srli_epi32(_mm256_castps_si256(a), 23);
  return _mm256_cvtepi32_ps(_mm256_sub_epi32(bits, _mm256_set1_epi32(127)));
}
uint32_t greater_equal(Floats a, Floats b) {
  return static_cast<uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_GE_OQ)));
}
Floats blend(uint32_t mask, Floats a, Floats otherwise) {
  const __m256i bits = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
  const __m256i on =
      _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(static_cast<int>(mask)), bits), bits);
  return _mm256_blendv_ps(otherwise, a, _mm256_castsi256_ps(on));
}
void store_bytes(uint8_t* p, Floats a) {
  const __m256i ints = _mm256_cvtps_epi32(a);
  const __m128i words =
      _mm_packs_epi32(_mm256_castsi256_si128(ints), _mm256_extracti128_si256(ints, 1));
  // Packs by truncation to the low byte of each word, which preserves codes of either sign.
  const __m128i bytes = _mm_packus_epi16(_mm_and_si128(words, _mm_set1_epi16(255)), words);
  _mm_storel_epi64(reinterpret_cast<__m128i*>(p), bytes);
}

constexpr int double_lanes = 4;
using Doubles = __m256d;

Doubles zero_doubles() { return _mm256_setzero_pd(); }
Doubles load_doubles(const double* p) { return _mm256_loadu_pd(p); }
void store_doubles(double* p, Doubles a) { _mm256_storeu_pd(p, a); }
Doubles multiply_add(Doubles a, Doubles b, Doubles c) { return _mm256_fmadd_pd(a, b, c); }
Doubles broadcast_doubles(double a) { return _mm256_set1_pd(a); }
Doubles add(Doubles a, Doubles b) { return _mm256_add_pd(a, b); }
Doubles sub(Doubles a, Doubles b) { return _mm256_sub_pd(a, b); }
Doubles mul(Doubles a, Doubles b) { return _mm256_mul_pd(a, b); }
Doubles maximum(Doubles a, Doubles b) { return _mm256_max_pd(a, b); }

// Accumulators of a product: 4 x 3, three registers of columns, one of rows.
constexpr int product_height = 4, product_registers = 3;

__m128i load_8_bytes(const void* p) { return _mm_loadl_epi64(static_cast<const __m128i*>(p)); }
__m128i load_4_bytes(const void* p) {
  int32_t bits;
  memcpy(&bits, p, sizeof bits);
  return _mm_cvtsi32_si128(bits);
}
__m128i load_16_bytes(const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }

Floats load_widened(const float* p) { return load(p); }
Floats load_widened(const Half* p) { return _mm256_cvtph_ps(load_16_bytes(p)); }
Floats load_widened(const Bfloat* p) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(load_16_bytes(p)), 16));
}
Floats load_widened(const int8_t* p) {
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(load_8_bytes(p)));
}
Doubles load_doubles(const float* p) { return _mm256_cvtps_pd(_mm_loadu_ps(p)); }
Doubles load_doubles(const Half* p) { return _mm256_cvtps_pd(_mm_cvtph_ps(load_8_bytes(p))); }
Doubles load_doubles(const Bfloat* p) {
  return _mm256_cvtps_pd(_mm_castsi128_ps(_mm_slli_epi32(_mm_cvtepu16_epi32(load_8_bytes(p)), 16)));
}
Doubles load_doubles(const int8_t* p) {
  return _mm256_cvtepi32_pd(_mm_cvtepi8_epi32(load_4_bytes(p)));
}

}  // namespace
}  // namespace tilefold::cpu::ISA
