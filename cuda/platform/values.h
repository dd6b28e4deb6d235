// Elements of matrices as fp32, which is exact for every dtype but fp64; fp64 stays.
#pragma once
#include <cstdint>

#include "contract/matrix.h"
#include "cuda/platform/cuda.h"

namespace tilefold::cuda {

__device__ inline float widened(float x) { return x; }
__device__ inline double widened(double x) { return x; }
__device__ inline float widened(int8_t x) { return x; }
__device__ inline float widened(Bfloat x) {
  return __uint_as_float(static_cast<uint32_t>(x.bits) << 16);
}
__device__ inline float widened(Half x) {
  const uint32_t sign = static_cast<uint32_t>(x.bits & 0x8000u) << 16;
  const uint32_t rest = static_cast<uint32_t>(x.bits & 0x7fffu) << 13;
  if (rest >= 0x0f800000u) return __uint_as_float(sign | 0x70000000u | rest);  // inf, NaN
  // The exponent's bias is 15 instead of 127. The product is exact, also where x is subnormal.
  return __uint_as_float(sign | __float_as_uint(__uint_as_float(rest) * 0x1p112f));
}

// The nearest bf16, ties to even.
__device__ inline uint32_t bf16_bits(float x) {
  const uint32_t bits = __float_as_uint(x);
  if (!(x == x)) return bits >> 16 | 0x40u;
  return (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
}
__device__ inline uint32_t bf16_bits(Bfloat x) { return x.bits; }

template <class T>
__device__ const T* row_of(const Matrix& m, int64_t row) {
  return static_cast<const T*>(m.data) + row * m.row_stride;
}

// Calls visit with a value of the type of vectors' elements.
template <class Visit>
void for_dtype(Dtype dtype, Visit visit) {
  switch (dtype) {
    case Dtype::f32: return visit(float{});
    case Dtype::f16: return visit(Half{});
    case Dtype::bf16: return visit(Bfloat{});
    case Dtype::i8: return visit(int8_t{});
    case Dtype::f64: return;  // not accepted by searches
  }
}

// The same for the dtypes of embeddings whose scores are T.
template <class T, class Visit>
void for_dtype_of(Dtype dtype, Visit visit) {
  if constexpr (sizeof(T) == sizeof(double))
    visit(double{});
  else if (dtype == Dtype::f32)
    visit(float{});
  else if (dtype == Dtype::f16)
    visit(Half{});
  else
    visit(Bfloat{});
}

}  // namespace tilefold::cuda
