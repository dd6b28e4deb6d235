// Approximate selection of the k-th largest of n values by one histogram. The branches of an exact
// selection are unpredictable: nth_element takes about five times as long on a few thousand values.
#pragma once
#include <cstdint>
#include <vector>

namespace tilefold::cpu {

class Selector {
 public:
  // Returns a value that at least k, and apart from ties at most k + k / 4 + 16, of the values
  // reach; -inf if n < k. Values may be infinite but not NaN. Reorders them.
  float kth_largest(float* values, int64_t n, int64_t k);

 private:
  std::vector<int32_t> counts_;
};

}  // namespace tilefold::cpu
