// Statistics of a strip of 16 columns over 32 rows, with sums in registers. Two passes compute the
// mean and the squared deviations from it. Meanwhile the next rows are prefetched, one line for
// each line that is read, because columns are too far apart for the hardware prefetcher. Sums of 16
// rows are fp32; they are merged in fp64 (Chan, Golub & LeVeque 1983), which avoids cancellation.
#pragma once
#include <math.h>
#include <string.h>

#include "contract/matrix.h"
#include "cpu/lanes/reduce.h"
#include "cpu/lanes/statistics_args.h"

namespace tilefold::cpu::ISA {
namespace {

constexpr int64_t rows_together = 32;
constexpr int strip_registers = strip_columns / float_lanes;

// A strip of columns of some rows; columns beyond the width are zeros.
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
  float mean[strip_columns];
  float deviation[strip_columns], square[strip_columns];  // sums of deviations and of their squares
  float min[strip_columns], max[strip_columns];
};

template <class T>
void sum_strip(const Strip<T>& strip, const T* const* next, int64_t column, Sums& out) {
  Floats sum[2][strip_registers], square[2][strip_registers];  // of even and odd rows
  Floats min[strip_registers], max[strip_registers], mean[strip_registers];
  for (int i = 0; i < strip_registers; ++i) {
    sum[0][i] = sum[1][i] = square[0][i] = square[1][i] = broadcast(0);
    min[i] = broadcast(HUGE_VALF);
    max[i] = broadcast(-HUGE_VALF);
  }
  const auto add_row = [&](int64_t r, int odd) {
    __builtin_prefetch(next[r] + column);
    for (int i = 0; i < strip_registers; ++i) {
      const Floats x = strip.at(r, i);
      sum[odd][i] = add(sum[odd][i], x);
      min[i] = minimum(x, min[i]);  // the second operand if one is NaN
      max[i] = maximum(x, max[i]);
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
  const auto add_deviations = [&](int64_t row, int odd) {
    for (int i = 0; i < strip_registers; ++i) {
      const Floats deviation = sub(strip.at(row, i), mean[i]);
      sum[odd][i] = add(sum[odd][i], deviation);
      square[odd][i] = multiply_add(deviation, deviation, square[odd][i]);
    }
  };
  for (r = 0; r + 2 <= strip.n; r += 2) {
    add_deviations(r, 0);
    add_deviations(r + 1, 1);
  }
  if (r < strip.n) add_deviations(r, 0);
  for (int i = 0; i < strip_registers; ++i) {
    const int at = i * float_lanes;
    store(out.mean + at, mean[i]);
    store(out.deviation + at, add(sum[0][i], sum[1][i]));
    store(out.square + at, add(square[0][i], square[1][i]));
    store(out.min + at, min[i]);
    store(out.max + at, max[i]);
  }
}

// Counts the rows that exceed each of N thresholds.
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

// Merging and counting are loops over few columns. With __restrict the compiler vectorises them
// (statistics of a site: 4.9 to 5.8 GB/s with AVX2).
inline void merge_strip(const Sums& sums, int64_t before, int64_t n, int64_t columns,
                        double* __restrict mean, double* __restrict m2, float* __restrict min,
                        float* __restrict max) {
  const double here = static_cast<double>(n), all = static_cast<double>(before + n);
  const double inverse_n = 1 / here, share = here / all, both = static_cast<double>(before) * share;
  for (int64_t c = 0; c < columns; ++c) {
    const double rest = sums.deviation[c];
    const double shift = sums.mean[c] + rest * inverse_n - mean[c];
    mean[c] += shift * share;
    m2[c] += sums.square[c] - rest * rest * inverse_n + shift * shift * both;
  }
  for (int64_t c = 0; c < columns; ++c) {
    min[c] = sums.min[c] < min[c] ? sums.min[c] : min[c];
    max[c] = sums.max[c] > max[c] ? sums.max[c] : max[c];
  }
}

// Counts of callers may be anything, so that a sum may wrap around.
inline int64_t wrapping_sum(int64_t a, int64_t b) {
  return static_cast<int64_t>(static_cast<uint64_t>(a) + static_cast<uint64_t>(b));
}

inline void add_counts(const float* __restrict counts, int64_t columns, int64_t* __restrict out) {
  for (int64_t c = 0; c < columns; ++c)
    out[c] = wrapping_sum(out[c], static_cast<int32_t>(counts[c]));
}

}  // namespace
}  // namespace tilefold::cpu::ISA
