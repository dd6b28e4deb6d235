// What can be learned of documents beyond the filter's bounds: an fp32 estimate, which leaves hardly
// more than k candidates open, and the canonical score, four times as dear.
#pragma once
#include <vector>

#include "cpu/host/group.h"

namespace tilefold {

// Unbounded candidates come first.
inline float centre_of(const Candidate& c) {
  const bool open = c.lower < c.upper && c.upper <= 3e38f;
  return open ? c.lower + (c.upper - c.lower) / 2 : c.upper;
}

class Refiner {
 public:
  Refiner(const SearchArgs& a, const SearchKernels& kernels, const Group& group)
      : a_(a), kernels_(kernels), group_(group) {}

  // Narrows the bounds of those candidates of query q that are still the filter's and whose centre
  // is at least `from`.
  void estimate(int q, Candidate* candidates, int64_t n, float from);
  // Scores canonically those not yet scored; returns how many.
  int64_t score(int q, Candidate* candidates, int64_t n);
  // Scores documents first, first + 1, ...
  void score_rows(int q, int64_t first, int64_t n, float* scores) const;

  // False once a canonical score lay outside the bounds of its candidate: the bounds are wrong.
  bool sound() const { return sound_; }

  int64_t id_of(int64_t row) const {
    return a_.document_ids ? a_.document_ids[row] : a_.first_id + row;
  }

 private:
  float error(int q, int64_t row) const;

  const SearchArgs& a_;
  const SearchKernels& kernels_;
  const Group& group_;
  std::vector<int64_t> rows_;
  std::vector<Candidate*> places_;
  std::vector<float> values_;
  bool sound_ = true;
};

}  // namespace tilefold
