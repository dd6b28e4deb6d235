#include "cpu/host/select.h"

#include <algorithm>
#include <functional>
#include <limits>

namespace tilefold {
namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr int64_t bins = 1024;
constexpr int64_t worth_a_histogram = 256;

struct Range {
  float lowest, highest;
};

// Four chains, or each comparison would wait for the one before.
Range range_of(const float* values, int64_t n) {
  float low[4] = {infinity, infinity, infinity, infinity};
  float high[4] = {-infinity, -infinity, -infinity, -infinity};
  for (int64_t i = 0; i < n; ++i) {
    low[i & 3] = std::min(low[i & 3], values[i]);
    high[i & 3] = std::max(high[i & 3], values[i]);
  }
  return {*std::min_element(low, low + 4), *std::max_element(high, high + 4)};
}

}  // namespace

float Selector::reached_by(float* values, int64_t n, int64_t k) {
  if (n < k) return -infinity;
  const Range range = range_of(values, n);
  const float scale = static_cast<float>(bins - 1) / (range.highest - range.lowest);
  const int64_t all = k + k / 4 + 16;
  if (n >= worth_a_histogram && scale > 0 && scale < infinity) {  // else: infinite, or all equal
    counts_.assign(static_cast<size_t>(bins), 0);
    const auto bin = [&](float v) { return static_cast<size_t>((v - range.lowest) * scale); };
    for (int64_t i = 0; i < n; ++i) ++counts_[bin(values[i])];
    size_t lowest = static_cast<size_t>(bins);
    int64_t above = 0;
    while (above + counts_[lowest - 1] < k) above += counts_[--lowest];
    --lowest;
    const auto last =
        std::copy_if(values, values + n, values, [&](float v) { return bin(v) == lowest; });
    n = last - values;
    k -= above;
    if (above + n <= all) return *std::min_element(values, last);
  }
  std::nth_element(values, values + (k - 1), values + n, std::greater<float>());
  return values[k - 1];
}

}  // namespace tilefold
