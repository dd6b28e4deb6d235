// Logarithms of sums of exponentials, in parts.
#pragma once
#include <algorithm>
#include <cmath>
#include <limits>

namespace tilefold {

inline double log_add(double a, double b) {
  const double top = std::max(a, b);
  if (top == -std::numeric_limits<double>::infinity()) return top;
  return top + std::log1p(std::exp(std::min(a, b) - top));
}

// e^a summed in parts, each relative to its maximum.
struct LogSum {
  double most = -std::numeric_limits<double>::infinity(), sum = 0;

  void add(double part_most, double part_sum) {
    if (part_most == -std::numeric_limits<double>::infinity()) return;
    if (part_most > most) {
      sum *= std::exp(most - part_most);
      most = part_most;
    }
    sum += part_sum * std::exp(part_most - most);
  }
  double log() const { return most + std::log(sum); }  // -inf if nothing was added
};

}  // namespace tilefold
