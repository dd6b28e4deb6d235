// Statistics of columns of activations, a strip of columns and some rows at a time.
#pragma once
#include <math.h>
#include <string.h>

#include "contract/statistics.h"
#include "cpu/lanes/strip.h"

namespace tilefold::cpu::ISA {
namespace {

inline int histogram_bin(float x) {
  int32_t bits;
  memcpy(&bits, &x, sizeof bits);
  // The exponent and three bits of the fraction: an octave has eight bins.
  const int place = ((bits & 0x7fffffff) >> 20) - (127 + min_octave) * bins_per_octave;
  if (place < 0) return bins_per_sign;
  const int bin = place < bins_per_sign ? place : bins_per_sign - 1;
  return bits < 0 ? bins_per_sign - 1 - bin : bins_per_sign + 1 + bin;
}

template <class T>
void fold_strip(const StatisticsArgs& a, const T* const* rows, const T* const* next, int64_t n,
                int64_t before, int64_t column, int64_t columns) {
  const Strip<T> strip(rows, n, column, columns);
  Sums sums;
  sum_strip(strip, next, column, sums);
  merge_strip(sums, before, n, columns, a.mean + column, a.m2 + column, a.min + column,
              a.max + column);
  for (int64_t t = 0; t < a.n_thresholds; t += 4) {
    float counts[4][strip_columns];
    const int64_t some = a.n_thresholds - t;
    if (some >= 4) count_strip<4>(strip, a.thresholds + t, counts);
    if (some == 3) count_strip<3>(strip, a.thresholds + t, counts);
    if (some == 2) count_strip<2>(strip, a.thresholds + t, counts);
    if (some == 1) count_strip<1>(strip, a.thresholds + t, counts);
    for (int64_t i = 0; i < (some < 4 ? some : 4); ++i)
      add_counts(counts[i], columns, a.above + (t + i) * a.x.dim + column);
  }
  if (!a.histogram) return;
  for (int64_t r = 0; r < n; ++r) {
    float x[strip_columns];
    for (int i = 0; i < strip_registers; ++i) store(x + i * float_lanes, strip.at(r, i));
    for (int64_t c = 0; c < columns; ++c)
      if (x[c] == x[c]) {
        int64_t& count = a.histogram[(column + c) * histogram_bins + histogram_bin(x[c])];
        count = wrapping_sum(count, 1);
      }
  }
}

template <class T>
void fold_columns(const StatisticsArgs& a, int64_t begin, int64_t end) {
  const auto row = [&](int64_t i) {
    return static_cast<const T*>(a.x.data) + a.rows[i < a.n ? i : a.n - 1] * a.x.row_stride;
  };
  const int64_t before = *a.count;
  for (int64_t first = 0; first < a.n; first += rows_together) {
    const int64_t n = a.n - first < rows_together ? a.n - first : rows_together;
    const T *rows[rows_together], *next[rows_together];
    for (int64_t r = 0; r < n; ++r) {
      rows[r] = row(first + r);
      next[r] = row(first + rows_together + r);
    }
    for (int64_t j = begin; j < end; j += strip_columns)
      fold_strip(a, rows, next, n, before + first, j,
                 end - j < strip_columns ? end - j : strip_columns);
  }
}

void fold_statistics(const StatisticsArgs& a, int64_t begin, int64_t end) {
  switch (a.x.dtype) {
    case Dtype::f32: return fold_columns<float>(a, begin, end);
    case Dtype::f16: return fold_columns<Half>(a, begin, end);
    case Dtype::bf16: return fold_columns<Bfloat>(a, begin, end);
    case Dtype::i8:
    case Dtype::f64: return;  // refused by the op
  }
}

}  // namespace
}  // namespace tilefold::cpu::ISA
