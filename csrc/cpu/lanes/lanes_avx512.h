// Sixteen fp32 or eight fp64 lanes: AVX-512 F, BW, VL with VNNI.
#pragma once
#ifdef TILEFOLD_EMULATE_AVX512
#include "cpu/lanes/emulated_avx512.h"
#else
#include <immintrin.h>
#endif
#include <math.h>
#include <string.h>

#include <cstdint>

#include "contract/matrix.h"

namespace tilefold::cpu::ISA {
namespace {

constexpr int float_lanes = 16;
using Floats = __m512;

Floats load(const float* p) { return _mm512_loadu_ps(p); }
void store(float* p, Floats a) { _mm512_storeu_ps(p, a); }
Floats broadcast(float a) { return _mm512_set1_ps(a); }
// *p - minus, in integers
Floats from_ints(const int32_t* p, int32_t minus) {
  return _mm512_cvtepi32_ps(_mm512_sub_epi32(_mm512_loadu_si512(p), _mm512_set1_epi32(minus)));
}
Floats add(Floats a, Floats b) { return _mm512_add_ps(a, b); }
Floats sub(Floats a, Floats b) { return _mm512_sub_ps(a, b); }
Floats mul(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
Floats divide(Floats a, Floats b) { return _mm512_div_ps(a, b); }
Floats multiply_add(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
float multiply_add(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
Floats maximum(Floats a, Floats b) { return _mm512_max_ps(a, b); }
Floats minimum(Floats a, Floats b) { return _mm512_min_ps(a, b); }
// 1 where a > b, else 0
Floats exceeds(Floats a, Floats b) {
  const __mmask16 mask = _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ);
  return _mm512_mask_blend_ps(mask, _mm512_set1_ps(0), _mm512_set1_ps(1));
}
Floats absolute(Floats a) { return _mm512_abs_ps(a); }
Floats nearest(Floats a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT); }
// 2^n for integers n from -126 to 127
Floats power_of_two(Floats n) {
  const __m512i exponent = _mm512_sub_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(-127));
  return _mm512_castsi512_ps(_mm512_slli_epi32(exponent, 23));
}
// floor(log2(a)) of positive normal numbers
Floats exponent(Floats a) { return _mm512_getexp_ps(a); }
uint32_t greater_equal(Floats a, Floats b) { return _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ); }
Floats blend(uint32_t mask, Floats a, Floats otherwise) {
  return _mm512_mask_blend_ps(static_cast<__mmask16>(mask), otherwise, a);
}
void store_bytes(uint8_t* p, Floats a) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(a)));
}

constexpr int double_lanes = 8;
using Doubles = __m512d;

Doubles zero_doubles() { return _mm512_setzero_pd(); }
Doubles load_doubles(const double* p) { return _mm512_loadu_pd(p); }
void store_doubles(double* p, Doubles a) { _mm512_storeu_pd(p, a); }
Doubles multiply_add(Doubles a, Doubles b, Doubles c) { return _mm512_fmadd_pd(a, b, c); }
Doubles broadcast_doubles(double a) { return _mm512_set1_pd(a); }
Doubles add(Doubles a, Doubles b) { return _mm512_add_pd(a, b); }
Doubles sub(Doubles a, Doubles b) { return _mm512_sub_pd(a, b); }
Doubles mul(Doubles a, Doubles b) { return _mm512_mul_pd(a, b); }
Doubles maximum(Doubles a, Doubles b) { return _mm512_max_pd(a, b); }

// Accumulators of a product: 8 x 3, three registers of columns, one of rows.
constexpr int product_height = 8, product_registers = 3;

__m128i load_8_bytes(const void* p) { return _mm_loadl_epi64(static_cast<const __m128i*>(p)); }
__m128i load_16_bytes(const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }
__m256i load_32_bytes(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }

Floats load_widened(const float* p) { return load(p); }
Floats load_widened(const Half* p) { return _mm512_cvtph_ps(load_32_bytes(p)); }
Floats load_widened(const Bfloat* p) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(load_32_bytes(p)), 16));
}
Floats load_widened(const int8_t* p) {
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(load_16_bytes(p)));
}
Doubles load_doubles(const float* p) { return _mm512_cvtps_pd(_mm256_loadu_ps(p)); }
Doubles load_doubles(const Half* p) { return _mm512_cvtps_pd(_mm256_cvtph_ps(load_16_bytes(p))); }
Doubles load_doubles(const Bfloat* p) {
  return _mm512_cvtps_pd(
      _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(load_16_bytes(p)), 16)));
}
Doubles load_doubles(const int8_t* p) {
  return _mm512_cvtepi32_pd(_mm256_cvtepi8_epi32(load_8_bytes(p)));
}

}  // namespace
}  // namespace tilefold::cpu::ISA
