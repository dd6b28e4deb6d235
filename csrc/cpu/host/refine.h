// Tightens the filter's bounds of candidates: by an fp32 estimate, after which hardly more than k
// candidates remain, and by the canonical score, which takes four times as long.
#pragma once
#include <vector>

#include "cpu/host/group.h"

namespace tilefold::cpu {

// The middle of a candidate's bounds; unbounded candidates rank first.
inline float midpoint(const Candidate& c) {
  const bool open = c.lower < c.upper && c.upper <= 3e38f;
  return open ? c.lower + (c.upper - c.lower) / 2 : c.upper;
}

class Refiner {
 public:
  Refiner(const SearchArgs& a, const SearchKernels& kernels, const Group& group)
      : a_(a), kernels_(kernels), group_(group) {}

  // Estimates those candidates of query q that have only the filter's bounds and whose midpoint is
  // at least `min_midpoint`.
  void estimate(int q, Candidate* candidates, int64_t n, float min_midpoint);
  // Computes the canonical scores of candidates that have none; returns their number.
  int64_t score(int q, Candidate* candidates, int64_t n);
  // Computes the canonical scores of documents first, first + 1, ...
  void score_rows(int q, int64_t first, int64_t n, float* scores) const;

  // False once a canonical score lay outside its candidate's bounds, which are then wrong.
  bool sound() const { return sound_; }

  int64_t document_id(int64_t row) const {
    return a_.document_ids ? a_.document_ids[row] : a_.first_id + row;
  }

 private:
  float estimate_error(int q, int64_t row) const;

  const SearchArgs& a_;
  const SearchKernels& kernels_;
  const Group& group_;
  std::vector<int64_t> rows_;
  std::vector<Candidate*> targets_;
  std::vector<float> values_;
  bool sound_ = true;
};

}  // namespace tilefold::cpu
