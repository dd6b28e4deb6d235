// The AVX-512 intrinsics that the avx512 row uses, in portable vector code, so that its tests run
// on machines without AVX-512 (CMake option TILEFOLD_EMULATE_AVX512). For tests only: never
// shipped.
#pragma once
#include <immintrin.h>
#include <math.h>
#include <string.h>

#include <cstdint>

#pragma GCC diagnostic ignored "-Wpsabi"  // everything that passes 64-byte vectors is inlined

namespace tilefold::emulated {

typedef int32_t Int32x16 __attribute__((vector_size(64)));
typedef uint32_t Uint32x16 __attribute__((vector_size(64)));

inline __m512 halves(__m256 low, __m256 high) {
  __m512 whole;
  memcpy(&whole, &low, 32);
  memcpy(reinterpret_cast<char*>(&whole) + 32, &high, 32);
  return whole;
}
inline __m512d halves(__m256d low, __m256d high) {
  __m512d whole;
  memcpy(&whole, &low, 32);
  memcpy(reinterpret_cast<char*>(&whole) + 32, &high, 32);
  return whole;
}
inline __m512i halves(__m256i low, __m256i high) {
  __m512i whole;
  memcpy(&whole, &low, 32);
  memcpy(reinterpret_cast<char*>(&whole) + 32, &high, 32);
  return whole;
}
template <class Vector, class T>
Vector load(const T* p) {
  Vector a;
  memcpy(&a, p, sizeof a);
  return a;
}
template <class Vector, class T>
void store(T* p, Vector a) {
  memcpy(p, &a, sizeof a);
}
inline __m128i low(__m256i a) { return _mm256_castsi256_si128(a); }
inline __m128i high(__m256i a) { return _mm256_extracti128_si256(a, 1); }

template <class F>
__m512 each(__m512 a, F f) {
  for (int l = 0; l < 16; ++l) a[l] = f(a[l], l);
  return a;
}
inline __m512d fused(__m512d a, __m512d b, __m512d c) {
  for (int l = 0; l < 8; ++l) a[l] = fma(a[l], b[l], c[l]);
  return a;
}
inline __m512i dot_bytes(__m512i sum, __m512i codes, __m512i query) {
  uint8_t u[64];
  int8_t s[64];
  int32_t total[16];
  store(u, codes);
  store(s, query);
  store(total, sum);
  for (int i = 0; i < 64; ++i) total[i / 4] += u[i] * s[i];
  return load<__m512i>(total);
}
inline __m128i low_bytes(__m512i a) {
  const Int32x16 words = (Int32x16)a;
  uint8_t bytes[16];
  for (int l = 0; l < 16; ++l) bytes[l] = static_cast<uint8_t>(words[l]);
  return load<__m128i>(bytes);
}
inline __m512 dot_bfloats(__m512 sum, __m512i a, __m512i b) {
  const Uint32x16 x = (Uint32x16)a, y = (Uint32x16)b;
  const auto widened = [](uint32_t bits) {
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
  };
  for (int l = 0; l < 16; ++l) {
    sum[l] = fmaf(widened(x[l] & 0xffff0000u), widened(y[l] & 0xffff0000u), sum[l]);
    sum[l] = fmaf(widened(x[l] << 16), widened(y[l] << 16), sum[l]);
  }
  return sum;
}
inline __m256i narrowed(__m512 a) {
  uint32_t bits[16];
  store(bits, a);
  uint16_t halves[16];
  for (int l = 0; l < 16; ++l)
    halves[l] = static_cast<uint16_t>((bits[l] + 0x7fffu + (bits[l] >> 16 & 1)) >> 16);
  return load<__m256i>(halves);
}
// a > b or a >= b.
inline __mmask16 compare(__m512 a, __m512 b, int how) {
  unsigned mask = 0;
  for (int l = 0; l < 16; ++l)
    mask |= static_cast<unsigned>(how == _CMP_GT_OQ ? a[l] > b[l] : a[l] >= b[l]) << l;
  return static_cast<__mmask16>(mask);
}

}  // namespace tilefold::emulated

#define EMULATED ::tilefold::emulated
#define _mm512_loadu_ps(p) EMULATED::load<__m512>(p)
#define _mm512_loadu_pd(p) EMULATED::load<__m512d>(p)
#define _mm512_loadu_si512(p) EMULATED::load<__m512i>(p)
#define _mm512_storeu_ps(p, a) EMULATED::store<__m512>(p, a)
#define _mm512_storeu_pd(p, a) EMULATED::store<__m512d>(p, a)
#define _mm512_storeu_si512(p, a) EMULATED::store<__m512i>(p, a)
#define _mm512_set1_ps(x) (__m512{} + static_cast<float>(x))
#define _mm512_set1_epi32(x) ((__m512i)(EMULATED::Int32x16{} + static_cast<int32_t>(x)))
#define _mm512_set1_epi8(x) EMULATED::halves(_mm256_set1_epi8(x), _mm256_set1_epi8(x))
#define _mm512_set1_pd(x) (__m512d{} + static_cast<double>(x))
#define _mm512_setzero_pd() (__m512d{})
#define _mm512_add_pd(a, b) ((a) + (b))
#define _mm512_sub_pd(a, b) ((a) - (b))
#define _mm512_mul_pd(a, b) ((a) * (b))
#define _mm512_max_pd(a, b) ((a) > (b) ? (a) : (b))
#define _mm512_setzero_si512() (__m512i{})
#define _mm512_add_ps(a, b) ((a) + (b))
#define _mm512_sub_ps(a, b) ((a) - (b))
#define _mm512_mul_ps(a, b) ((a) * (b))
#define _mm512_div_ps(a, b) ((a) / (b))
#define _mm512_getexp_ps(a) EMULATED::each(a, [](float x, int) { return logbf(x); })
#define _mm512_max_ps(a, b) ((a) > (b) ? (a) : (b))
#define _mm512_min_ps(a, b) ((a) < (b) ? (a) : (b))
#define _mm512_fmadd_ps(a, b, c) \
  EMULATED::each(a, [&](float x, int l) { return fmaf(x, (b)[l], (c)[l]); })
#define _mm512_fmadd_pd(a, b, c) EMULATED::fused(a, b, c)
#define _mm512_abs_ps(a) EMULATED::each(a, [](float x, int) { return fabsf(x); })
#define _mm512_roundscale_ps(a, how)                                         \
  EMULATED::each(a, [](float x, int) {                                       \
    return ((how) & 3) == _MM_FROUND_TO_NEG_INF ? floorf(x) : nearbyintf(x); \
  })
#define _mm512_sub_epi32(a, b) ((__m512i)((EMULATED::Int32x16)(a) - (EMULATED::Int32x16)(b)))
#define _mm512_slli_epi32(a, n) ((__m512i)((EMULATED::Uint32x16)(a) << (n)))
#define _mm512_castsi512_ps(a) ((__m512)(a))
#define _mm512_cvtepi32_ps(a) __builtin_convertvector((EMULATED::Int32x16)(a), __m512)
#define _mm512_cvtps_epi32(a)         \
  ((__m512i) __builtin_convertvector( \
      EMULATED::each(a, [](float x, int) { return nearbyintf(x); }), EMULATED::Int32x16))
#define _mm512_cvtepi32_epi8(a) EMULATED::low_bytes(a)
#define _mm512_cvtph_ps(a) \
  EMULATED::halves(_mm256_cvtph_ps(EMULATED::low(a)), _mm256_cvtph_ps(EMULATED::high(a)))
#define _mm512_cvtepu16_epi32(a)                            \
  EMULATED::halves(_mm256_cvtepu16_epi32(EMULATED::low(a)), \
                   _mm256_cvtepu16_epi32(EMULATED::high(a)))
#define _mm512_cvtepi8_epi32(a) \
  EMULATED::halves(_mm256_cvtepi8_epi32(a), _mm256_cvtepi8_epi32(_mm_srli_si128(a, 8)))
#define _mm512_cvtps_pd(a)                                     \
  EMULATED::halves(_mm256_cvtps_pd(_mm256_castps256_ps128(a)), \
                   _mm256_cvtps_pd(_mm256_extractf128_ps(a, 1)))
#define _mm512_cvtepi32_pd(a) \
  EMULATED::halves(_mm256_cvtepi32_pd(EMULATED::low(a)), _mm256_cvtepi32_pd(EMULATED::high(a)))
#define _mm512_cmp_ps_mask(a, b, how) EMULATED::compare(a, b, how)
#define _mm512_mask_blend_ps(mask, a, b) \
  EMULATED::each(a, [&](float x, int l) { return (mask) >> l & 1 ? (b)[l] : x; })
#define _mm512_dpbusd_epi32(sum, codes, query) EMULATED::dot_bytes(sum, codes, query)
#define _mm512_or_si512(a, b) ((__m512i)((EMULATED::Uint32x16)(a) | (EMULATED::Uint32x16)(b)))
#define __m512bh __m512i
#define _mm512_dpbf16_ps(sum, a, b) EMULATED::dot_bfloats(sum, a, b)
#define _mm512_cvtneps_pbh(a) EMULATED::narrowed(a)
