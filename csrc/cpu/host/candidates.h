// Candidate lists of a group of queries: for each query, the documents that can still be among its
// k best, with bounds on their scores, and a threshold below which documents are dropped. A list is
// full at a limit that starts low, so that the threshold rises early and lists stay in the cache. A
// full list is tightened in steps of increasing cost until at least half of it is free:
//   1. raise the threshold to the k-th best value (see `optimistic`; in a sample, to the value at
//      its rank) and drop what cannot reach it;
//      if that is not enough, double the limit, up to the capacity;
//   2. estimate the k most promising candidates and raise the threshold accordingly;
//   3. estimate the whole list;
//   4. score the whole list canonically and keep the k best, which always suffices.
// A list for which step 1 once was not enough has wide bounds, and starts with step 2 from then on.
// Lists stay in the order of documents but for those of a sample, which come first, and are put in
// order in the end, so that later passes read memory forwards.
//
// Bounds cover the worst case, and actual errors are a small part of them. Step 1 therefore uses an
// optimistic threshold near the middle of the bounds, which drops most of what lower bounds would
// keep. The search verifies every threshold in the end (k documents do reach it) and otherwise
// repeats the query with safer ones (see Strategy).
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "cpu/host/refine.h"
#include "cpu/host/select.h"

namespace tilefold::cpu {

// Limit on the candidate lists of a group of queries, unless one query alone needs more.
constexpr int64_t list_bytes_per_thread = 64 << 20;
// Limit on all lists of a search for few queries, which are kept to its end.
constexpr int64_t list_bytes_together = 64 << 20;

class Candidates {
 public:
  // The position between a candidate's bounds at which its score is assumed when thresholds rise:
  // 0 is the lower bound, which is guaranteed. The optimistic position is six standard deviations
  // below the middle, as errors in random directions have a standard deviation of
  // half-width / sqrt(2 dim).
  static constexpr float guaranteed = 0;
  static float optimistic(int64_t dim);

  Candidates(int n_queries, int64_t k, int64_t capacity, float optimism);

  static int64_t capacity_for(int64_t k, int64_t rows);
  static int64_t bytes_for(int64_t k, int64_t rows) {
    return capacity_for(k, rows) * static_cast<int64_t>(sizeof(Candidate));
  }

  int n_queries() const { return static_cast<int>(counts_.size()); }
  int64_t capacity() const { return capacity_; }
  Candidate* list(int q) { return lists_.get() + q * capacity_; }
  Candidate* lists() { return lists_.get(); }
  int32_t& count(int q) { return counts_[static_cast<size_t>(q)]; }
  int32_t* counts() { return counts_.data(); }
  float& threshold(int q) { return thresholds_[static_cast<size_t>(q)]; }
  const float* thresholds() const { return thresholds_.data(); }
  float& pruned(int q) { return pruned_[static_cast<size_t>(q)]; }
  float* pruned_bounds() { return pruned_.data(); }
  int64_t& refined(int q) { return refined_[static_cast<size_t>(q)]; }
  // False once a canonical score contradicted its bounds.
  bool sound() const { return sound_; }
  void keep_sound(bool sound) { sound_ = sound_ && sound; }

  // Sets the number of candidates that reach a threshold when it is raised, k until this is called,
  // and the length of a full list, which depends on it.
  void set_rank(int64_t rank);

  bool full(int q) { return count(q) + block_rows > limits_[static_cast<size_t>(q)]; }
  void append(int q, Candidate candidate) { list(q)[count(q)++] = candidate; }

  // Makes room for a block in list q.
  void tighten(int q, Refiner& refiner);
  // Raises the threshold to about the value at the rank and drops what cannot reach it.
  void raise_threshold(int q, float optimism);
  // Puts list q in the order of documents.
  void sort(int q);

 private:
  void score(int q, Refiner& refiner);
  // The value at the rank, -inf if there are fewer.
  template <class Value>
  float best_at_rank(int q, Value value);
  void drop_below(int q, float threshold);
  void keep_best(int q, const Refiner& refiner);

  int64_t k_, rank_, capacity_;
  float optimism_;
  std::unique_ptr<Candidate[]> lists_;  // uninitialised, since most of it is never used
  std::vector<int32_t> counts_, limits_;
  std::vector<uint8_t> wide_;  // step 1 once was not enough
  std::vector<float> thresholds_, pruned_, values_;
  std::vector<int64_t> refined_;
  bool sound_ = true;
  Selector select_;
};

}  // namespace tilefold::cpu
