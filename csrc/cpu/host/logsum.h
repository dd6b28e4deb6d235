// Logarithms of sums of exponentials, accumulated in parts.
#pragma once
#include <algorithm>
#include <cmath>
#include <limits>

namespace tilefold::cpu {

// log(e^a + e^b)
inline double log_add(double a, double b) {
  const double max = std::max(a, b);
  if (max == -std::numeric_limits<double>::infinity()) return max;
  return max + std::log1p(std::exp(std::min(a, b) - max));
}

// A sum of exponentials, kept relative to its largest exponent.
struct LogSum {
  double max = -std::numeric_limits<double>::infinity(), sum = 0;

  // Adds part_sum * e^part_max.
  void add(double part_max, double part_sum) {
    if (part_max == -std::numeric_limits<double>::infinity()) return;
    if (part_max > max) {
      sum *= std::exp(max - part_max);
      max = part_max;
    }
    sum += part_sum * std::exp(part_max - max);
  }
  double log() const { return max + std::log(sum); }  // -inf if nothing was added
};

}  // namespace tilefold::cpu
