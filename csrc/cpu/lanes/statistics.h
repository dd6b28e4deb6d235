// Statistics of columns of activations: 16 columns at once down 32 rows, twice, sums in registers: for
// the mean, and for the squares of distances from it. The rows after them are fetched meanwhile, a line
// for each line that is read, as columns lie too far apart for the processor to guess. Sums of 16 rows
// are fp32; they are merged in fp64 (Chan, Golub & LeVeque 1983), so nothing cancels.
#pragma once
#include <math.h>
#include <string.h>

#include "contract/statistics.h"
#include "cpu/lanes/statistics_args.h"
#include "cpu/lanes/reduce.h"

namespace tilefold::cpu::ISA {
namespace {

constexpr int64_t rows_together = 32;
constexpr int strip_registers = strip_columns / float_lanes;

// The same columns of some rows; those beyond the width are zeros.
template <class T>
struct Strip {
  const T* row[rows_together];
  int64_t n;
  T tail[rows_together][strip_columns];

  Strip(const T* const* rows, int64_t n, int64_t column, int64_t columns) : n(n) {
    for (int64_t r = 0; r < n; ++r) {
      row[r] = rows[r] + column;
      if (columns == strip_columns) continue;
      memset(tail[r], 0, sizeof tail[r]);
      memcpy(tail[r], row[r], static_cast<size_t>(columns) * sizeof(T));
      row[r] = tail[r];
    }
  }
  Floats at(int64_t r, int i) const { return load_widened(row[r] + i * float_lanes); }
};

struct Sums {
  float mean[strip_columns], off[strip_columns], square[strip_columns];  // off: distances, summed
  float least[strip_columns], most[strip_columns];
};

template <class T>
void sum_strip(const Strip<T>& strip, const T* const* next, int64_t column, Sums& out) {
  Floats sum[2][strip_registers], square[2][strip_registers];  // of even and odd rows
  Floats least[strip_registers], most[strip_registers], mean[strip_registers];
  for (int i = 0; i < strip_registers; ++i) {
    sum[0][i] = sum[1][i] = square[0][i] = square[1][i] = broadcast(0);
    least[i] = broadcast(HUGE_VALF);
    most[i] = broadcast(-HUGE_VALF);
  }
  const auto add_row = [&](int64_t r, int odd) {
    __builtin_prefetch(next[r] + column);
    for (int i = 0; i < strip_registers; ++i) {
      const Floats x = strip.at(r, i);
      sum[odd][i] = add(sum[odd][i], x);
      least[i] = minimum(x, least[i]);  // the second operand where one is NaN
      most[i] = maximum(x, most[i]);
    }
  };
  int64_t r = 0;
  for (; r + 2 <= strip.n; r += 2) {
    add_row(r, 0);
    add_row(r + 1, 1);
  }
  if (r < strip.n) add_row(r, 0);
  const Floats share = broadcast(1.0f / static_cast<float>(strip.n));
  for (int i = 0; i < strip_registers; ++i) {
    mean[i] = mul(add(sum[0][i], sum[1][i]), share);
    sum[0][i] = sum[1][i] = broadcast(0);
  }
  const auto add_distances = [&](int64_t row, int odd) {
    for (int i = 0; i < strip_registers; ++i) {
      const Floats off = sub(strip.at(row, i), mean[i]);
      sum[odd][i] = add(sum[odd][i], off);
      square[odd][i] = multiply_add(off, off, square[odd][i]);
    }
  };
  for (r = 0; r + 2 <= strip.n; r += 2) {
    add_distances(r, 0);
    add_distances(r + 1, 1);
  }
  if (r < strip.n) add_distances(r, 0);
  for (int i = 0; i < strip_registers; ++i) {
    const int at = i * float_lanes;
    store(out.mean + at, mean[i]);
    store(out.off + at, add(sum[0][i], sum[1][i]));
    store(out.square + at, add(square[0][i], square[1][i]));
    store(out.least + at, least[i]);
    store(out.most + at, most[i]);
  }
}

// How many rows exceed N thresholds.
template <int N, class T>
void count_strip(const Strip<T>& strip, const float* thresholds, float (*out)[strip_columns]) {
  Floats limit[N], count[N][strip_registers];
  for (int t = 0; t < N; ++t) {
    limit[t] = broadcast(thresholds[t]);
    for (int i = 0; i < strip_registers; ++i) count[t][i] = broadcast(0);
  }
  for (int64_t r = 0; r < strip.n; ++r)
    for (int i = 0; i < strip_registers; ++i) {
      const Floats x = strip.at(r, i);
      for (int t = 0; t < N; ++t) count[t][i] = add(count[t][i], exceeds(x, limit[t]));
    }
  for (int t = 0; t < N; ++t)
    for (int i = 0; i < strip_registers; ++i) store(out[t] + i * float_lanes, count[t][i]);
}

// Merging and counting are loops over few columns: told that nothing overlaps, the compiler makes
// vectors of them (statistics of a site: 4.9 to 5.8 GB/s with AVX2).
inline void merge_strip(const Sums& sums, int64_t before, int64_t n, int64_t columns,
                        double* __restrict mean, double* __restrict m2, float* __restrict least,
                        float* __restrict most) {
  const double here = static_cast<double>(n), all = static_cast<double>(before + n);
  const double own = 1 / here, share = here / all, both = static_cast<double>(before) * share;
  for (int64_t c = 0; c < columns; ++c) {
    const double rest = sums.off[c], off = sums.mean[c] + rest * own - mean[c];
    mean[c] += off * share;
    m2[c] += sums.square[c] - rest * rest * own + off * off * both;
  }
  for (int64_t c = 0; c < columns; ++c) {
    least[c] = sums.least[c] < least[c] ? sums.least[c] : least[c];
    most[c] = sums.most[c] > most[c] ? sums.most[c] : most[c];
  }
}

inline void add_counts(const float* __restrict counts, int64_t columns, int64_t* __restrict out) {
  for (int64_t c = 0; c < columns; ++c) out[c] += static_cast<int32_t>(counts[c]);
}

inline int bin_of(float x) {
  int32_t bits;
  memcpy(&bits, &x, sizeof bits);
  // three bits of the fraction below the exponent: the bits of a number are nearly its logarithm
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
      if (x[c] == x[c]) ++a.histogram[(column + c) * histogram_bins + bin_of(x[c])];
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
    case Dtype::f64: return;  // refused before
  }
}

template <class T>
void max_of_columns(const Matrix& x, const int64_t* rows, int64_t n, int64_t begin, int64_t end,
                    float* most) {
  for (int64_t j = begin; j < end; ++j) most[j - begin] = -HUGE_VALF;
  for (int64_t i = 0; i < n; ++i) {
    const T* row = static_cast<const T*>(x.data) + rows[i] * x.row_stride;
    int64_t j = begin;
    for (; j + float_lanes <= end; j += float_lanes) {
      float* out = most + j - begin;
      store(out, maximum(load_widened(row + j), load(out)));
    }
    if (j == end) continue;
    T tail[float_lanes] = {};
    memcpy(tail, row + j, static_cast<size_t>(end - j) * sizeof(T));
    float wide[float_lanes];
    store(wide, load_widened(tail));
    for (int64_t c = j; c < end; ++c)
      most[c - begin] = wide[c - j] > most[c - begin] ? wide[c - j] : most[c - begin];
  }
}

void column_max(const Matrix& x, const int64_t* rows, int64_t n, int64_t begin, int64_t end,
                float* most) {
  switch (x.dtype) {
    case Dtype::f32: return max_of_columns<float>(x, rows, n, begin, end, most);
    case Dtype::f16: return max_of_columns<Half>(x, rows, n, begin, end, most);
    case Dtype::bf16: return max_of_columns<Bfloat>(x, rows, n, begin, end, most);
    case Dtype::i8:
    case Dtype::f64: return;
  }
}

}  // namespace
}  // namespace tilefold::cpu::ISA
