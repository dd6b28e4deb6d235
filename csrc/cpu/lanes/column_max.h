// Maxima of columns over some rows. A NaN is never the maximum.
#pragma once
#include <math.h>
#include <string.h>

#include "contract/matrix.h"

namespace tilefold::cpu::ISA {
namespace {

template <class T>
void max_of_columns(const Matrix& x, const int64_t* rows, int64_t n, int64_t begin, int64_t end,
                    float* max) {
  for (int64_t j = begin; j < end; ++j) max[j - begin] = -HUGE_VALF;
  for (int64_t i = 0; i < n; ++i) {
    const T* row = static_cast<const T*>(x.data) + rows[i] * x.row_stride;
    int64_t j = begin;
    for (; j + float_lanes <= end; j += float_lanes) {
      float* out = max + j - begin;
      store(out, maximum(load_widened(row + j), load(out)));
    }
    if (j == end) continue;
    T tail[float_lanes] = {};
    memcpy(tail, row + j, static_cast<size_t>(end - j) * sizeof(T));
    float wide[float_lanes];
    store(wide, load_widened(tail));
    for (int64_t c = j; c < end; ++c)
      max[c - begin] = wide[c - j] > max[c - begin] ? wide[c - j] : max[c - begin];
  }
}

void column_max(const Matrix& x, const int64_t* rows, int64_t n, int64_t begin, int64_t end,
                float* max) {
  switch (x.dtype) {
    case Dtype::f32: return max_of_columns<float>(x, rows, n, begin, end, max);
    case Dtype::f16: return max_of_columns<Half>(x, rows, n, begin, end, max);
    case Dtype::bf16: return max_of_columns<Bfloat>(x, rows, n, begin, end, max);
    case Dtype::i8:
    case Dtype::f64: return;
  }
}

}  // namespace
}  // namespace tilefold::cpu::ISA
