// Approximate selection of the k-th largest of n values by one histogram. The branches of an exact
// selection are unpredictable: nth_element takes about five times as long on a few thousand values.
#pragma once
#include <cstdint>
#include <limits>
#include <vector>

namespace tilefold::cpu {

// The value, or -inf for NaN, which sorting algorithms must not meet: they could leave their range.
// Vectors are finite when a search begins, but somebody may change them while it runs.
inline float ordered(float value) {
  return value == value ? value : -std::numeric_limits<float>::infinity();
}

class Selector {
 public:
  // Returns a value that at least k, and apart from ties at most k + k / 4 + 16, of the values
  // reach; -inf if n < k. Values may be infinite but not NaN. Reorders them.
  float kth_largest(float* values, int64_t n, int64_t k);

 private:
  std::vector<int32_t> counts_;
};

}  // namespace tilefold::cpu
