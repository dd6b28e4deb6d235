// A value that at least k of n values reach, close to the k-th best: one histogram instead of a
// selection, whose branches the processor cannot foresee (nth_element takes about five times as long
// on a few thousand values).
#pragma once
#include <cstdint>
#include <vector>

namespace tilefold {

class Selector {
 public:
  // Returns -inf if n < k. At most k + k / 4 + 16 values reach the result, ties aside. Values may be
  // infinite, not NaN. Reorders them.
  float reached_by(float* values, int64_t n, int64_t k);

 private:
  std::vector<int32_t> counts_;
};

}  // namespace tilefold
