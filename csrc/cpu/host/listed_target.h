// A target distribution that is restricted to the listed documents of each query.
#pragma once
#include <cstddef>
#include <vector>

#include "contract/losses.h"

namespace tilefold::cpu {

class ListedTarget {
 public:
  ListedTarget(const DivergenceArgs& a, int64_t n);

  bool given() const { return a_.listed.offsets != nullptr; }
  // The value of entry e of the lists in view v. It is first the scaled score, then log P_v, and
  // finally the target probability.
  double& at(int64_t e, int v) {
    return values_[static_cast<std::size_t>(e) * static_cast<std::size_t>(a_.n_views) +
                   static_cast<std::size_t>(v)];
  }
  // Turns scores of a query in view v to log P_v, given the logsumexp over all documents.
  void normalize(int64_t query, int v, double logsumexp);
  // Computes the mass and the divergences of a query from log P_v, and turns these to target
  // probabilities. Returns false if the listed documents have no mass.
  bool compute_divergences(int64_t query);

 private:
  // log M of an entry before normalization.
  double log_mixture(int64_t e);

  const DivergenceArgs& a_;
  const int64_t n_;
  std::vector<double> values_;  // [listed][views]
};

}  // namespace tilefold::cpu
