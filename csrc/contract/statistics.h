// Contracts of the ops on activations: statistics, examples and second_moment. Activations are a
// matrix [rows, width], of which the listed rows count.
#pragma once
#include <cstdint>

#include "contract/device.h"
#include "contract/matrix.h"

namespace tilefold {

// Histograms have 8 bins for each octave of magnitudes from 2^-16 to 2^16, for each sign, in the
// order of values. Values nearer to zero share the middle bin; larger ones go to the outermost
// bins.
constexpr int bins_per_octave = 8, min_octave = -16, octaves = 32;
constexpr int bins_per_sign = bins_per_octave * octaves, histogram_bins = 2 * bins_per_sign + 1;

// Updates statistics of each column. NaN enters the moments alone.
struct StatisticsArgs {
  Device device;
  Matrix x;
  const int64_t* rows;  // [n]
  int64_t n;
  int64_t* count;           // [1] in and out: number of rows so far
  double* mean;             // [width] in and out
  double* m2;               // [width] in and out: sum of squared deviations from the mean
  float* min;               // [width] in and out
  float* max;               // [width] in and out
  const float* thresholds;  // [n_thresholds]
  int64_t n_thresholds;
  int64_t* above;      // [n_thresholds, width] in and out: number of rows above each threshold
  int64_t* histogram;  // [width, histogram_bins] in and out, or null
};

// Keeps the k examples with the largest values of each column. An example's value is the maximum
// over its rows; ties are ordered by example number.
struct ExamplesArgs {
  Device device;
  Matrix x;
  const int64_t* offsets;  // [n + 1] CSR over rows
  const int64_t* rows;
  int64_t n_rows;  // in all
  int64_t n;
  const int64_t* numbers;  // [n] of examples
  int64_t k;
  float* values;      // [width, k] in and out: descending, padded with -inf
  int64_t* examples;  // [width, k] in and out: padded with -1
};

// Adds x^T x over the listed rows to sums, lower triangle only.
struct SecondMomentArgs {
  Device device;
  Matrix x;
  const int64_t* rows;  // [n]
  int64_t n;
  double* sums;  // [width, width] in and out
};

}  // namespace tilefold
