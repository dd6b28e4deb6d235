#include "cpu/host/select.h"

#include <algorithm>
#include <functional>
#include <limits>

namespace tilefold::cpu {
namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr int64_t bins = 1024;
constexpr int64_t min_values_for_histogram = 256;

struct Range {
  float min, max;
};

// Four independent chains, because each comparison of a single chain waits for the one before.
Range min_max(const float* values, int64_t n) {
  float low[4] = {infinity, infinity, infinity, infinity};
  float high[4] = {-infinity, -infinity, -infinity, -infinity};
  for (int64_t i = 0; i < n; ++i) {
    low[i & 3] = std::min(low[i & 3], values[i]);
    high[i & 3] = std::max(high[i & 3], values[i]);
  }
  return {*std::min_element(low, low + 4), *std::max_element(high, high + 4)};
}

}  // namespace

float Selector::kth_largest(float* values, int64_t n, int64_t k) {
  if (n < k) return -infinity;
  const Range range = min_max(values, n);
  const float scale = static_cast<float>(bins - 1) / (range.max - range.min);
  const int64_t enough = k + k / 4 + 16;
  if (n >= min_values_for_histogram && scale > 0 && scale < infinity) {
    // Otherwise a value is infinite or all are equal.
    counts_.assign(static_cast<size_t>(bins), 0);
    const auto bin = [&](float v) { return static_cast<size_t>((v - range.min) * scale); };
    for (int64_t i = 0; i < n; ++i) ++counts_[bin(values[i])];
    size_t lowest = static_cast<size_t>(bins);
    int64_t above = 0;
    while (above + counts_[lowest - 1] < k) above += counts_[--lowest];
    --lowest;
    const auto last =
        std::copy_if(values, values + n, values, [&](float v) { return bin(v) == lowest; });
    n = last - values;
    k -= above;
    if (above + n <= enough) return *std::min_element(values, last);
  }
  std::nth_element(values, values + (k - 1), values + n, std::greater<float>());
  return values[k - 1];
}

}  // namespace tilefold::cpu
