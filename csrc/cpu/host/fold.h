// Folds blocks of documents into the candidate lists of a group of queries.
#pragma once
#include <atomic>
#include <limits>
#include <memory>
#include <vector>

#include "cpu/host/candidates.h"
#include "cpu/host/group.h"
#include "cpu/host/refine.h"
#include "cpu/host/sample.h"
#include "pulse.h"

namespace tilefold::cpu {

// How thresholds are obtained, each way safer and slower than the one before: from a sample of the
// documents and optimistically from the filter's bounds, from those bounds alone, from lower bounds,
// or from canonical scores without a filter.
enum class Strategy { sampled, optimistic, lower_bounds, exact };

inline float optimism(Strategy strategy, int64_t dim) {
  return strategy <= Strategy::optimistic ? Candidates::optimistic(dim) : Candidates::guaranteed;
}

class Fold {
 public:
  // `share` is the share of the search that one block is, for progress.
  Fold(const SearchArgs& a, const SearchKernels& kernels, const Group& group, Strategy strategy,
       double share, Pulse& pulse);

  // Folds blocks [begin, end) into new lists. Folds of other ranges for the same queries exchange
  // thresholds through `shared`, one for each query of the group, unless it is null. A sample of
  // the blocks comes first if thresholds are sampled.
  std::unique_ptr<Candidates> run(int64_t begin, int64_t end, std::atomic<float>* shared);

 private:
  void fold_sample(const Sample& sample, Candidates& found);
  void fold_block(int64_t block, Candidates& found);
  void scan(int64_t block, uint32_t documents, Candidates& found);
  void score_block(int64_t block, uint32_t documents, Candidates& found);
  void drop_filtered(int q, int32_t begin, Candidates& found);
  uint32_t mask(int64_t block) const;
  bool excluded(int64_t query, int64_t id) const;

  const SearchArgs& a_;
  const SearchKernels& kernels_;
  const Group& group_;
  const Strategy strategy_;
  const double share_;
  Pulse& pulse_;
  Refiner refiner_;
  std::vector<int32_t> before_;  // counts of lists before a block
};

}  // namespace tilefold::cpu
