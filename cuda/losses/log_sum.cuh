// Logarithms of sums of exponentials, in fp64, by a block of threads.
#pragma once
#include "cuda/platform/reduce.h"

namespace tilefold::cuda {

// log(e^a + e^b)
__device__ inline double log_add(double a, double b) {
  const double most = a > b ? a : b, least = a > b ? b : a;
  if (most == -HUGE_VAL) return most;
  return most + log1p(exp(least - most));
}

// The logarithm of a sum of e^value, kept relative to its largest exponent.
struct LogSum {
  double max = -HUGE_VAL, sum = 0;

  // Adds part_sum * e^part_max. NaN stays in the sum.
  __device__ void add(double part_max, double part_sum) {
    if (part_max == -HUGE_VAL) return;
    if (!(part_max <= max)) {
      sum *= exp(max - part_max);
      max = part_max;
    }
    sum += part_sum * exp(part_max - max);
  }
  __device__ double log_of_sum() const { return max + log(sum); }  // -inf if nothing was added
};

struct LogSumShared {
  ReduceShared<double> doubles;
};

// The logarithm of the sum over all threads.
__device__ inline double log_sum_block(LogSumShared& shared, const LogSum& mine) {
  const bool number = mine.max == mine.max && mine.sum == mine.sum;
  const double max = max_block(shared.doubles, number ? mine.max : -HUGE_VAL);
  double part = 0;
  if (!number) part = NAN;
  if (number && mine.max > -HUGE_VAL) part = mine.sum * exp(mine.max - max);
  const double sum = sum_block(shared.doubles, part);
  return max > -HUGE_VAL || sum != sum ? max + log(sum) : max;
}

// The sum of e^value(i) for i in [begin, end), `step` apart.
template <class T, class Value>
__device__ LogSum sum_exponentials(int64_t begin, int64_t end, int64_t step, Value value) {
  T most = -INFINITY;
  bool number = true;
  for (int64_t i = begin; i < end; i += step) {
    const T x = value(i);
    most = x > most ? x : most;
    number = number && x == x;
  }
  if (!number) return {0, NAN};
  if (!(most > -INFINITY)) return {};
  T sum = 0;
  for (int64_t i = begin; i < end; i += step) sum += exp(value(i) - most);
  return {static_cast<double>(most), static_cast<double>(sum)};
}

}  // namespace tilefold::cuda
