// Rows of a matrix as fp32.
#pragma once
#include <string.h>

#include "contract/matrix.h"

namespace tilefold::cpu::ISA {
namespace {

template <class T>
void widen_row(const Matrix& m, int64_t row, float* out) {
  const T* x = static_cast<const T*>(m.data) + row * m.row_stride;
  int64_t j = 0;
  for (; j + float_lanes <= m.dim; j += float_lanes) store(out + j, load_widened(x + j));
  if (j < m.dim) {
    T rest[float_lanes] = {};
    float wide[float_lanes];
    memcpy(rest, x + j, static_cast<size_t>(m.dim - j) * sizeof(T));
    store(wide, load_widened(rest));
    memcpy(out + j, wide, static_cast<size_t>(m.dim - j) * sizeof(float));
  }
}

void widen(const Matrix& m, int64_t row, float* out) {
  switch (m.dtype) {
    case Dtype::f32: return widen_row<float>(m, row, out);
    case Dtype::f16: return widen_row<Half>(m, row, out);
    case Dtype::bf16: return widen_row<Bfloat>(m, row, out);
    case Dtype::i8: return widen_row<int8_t>(m, row, out);
    case Dtype::f64: return;  // not accepted by searches
  }
}

bool finite_row(const float* x, int64_t dim) {
  uint32_t max = 0;  // the magnitude bits of non-finite values are the largest
  for (int64_t j = 0; j < dim; ++j) {
    uint32_t bits;
    memcpy(&bits, x + j, sizeof bits);
    bits &= 0x7fffffffu;
    max = bits > max ? bits : max;
  }
  return max < 0x7f800000u;
}

}  // namespace
}  // namespace tilefold::cpu::ISA
