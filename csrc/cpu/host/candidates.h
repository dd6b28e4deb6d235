// What a group of queries still holds for possible: for each query a list of documents with bounds
// on their scores, and a threshold below which documents are left out. A list is full at a limit
// that begins low, so that the threshold rises early and lists stay in the cache. A full list is
// tightened in steps, each dearer than the one before, until at least half of it is free:
//   1. raise the threshold to the k-th best of `trusted` values and drop what cannot reach it;
//      if that is not enough, double the limit, up to the capacity;
//   2. estimate the k most promising, and raise the threshold to what they show;
//   3. estimate the whole list;
//   4. score the whole list canonically and keep the k best. This always suffices.
// A list for which step 1 was not enough once (its bounds are wide) begins with step 2 from then on.
// Lists stay in the order in which documents were met, so later passes read memory forwards.
//
// Bounds hold for the worst case; real errors are a small part of them. So the threshold of step 1
// is a wager on the middle of bounds, not a certainty: most of what lower bounds would keep is out at
// once. Search certifies every threshold in the end (k documents do reach it) or folds anew, at lower
// bounds alone and at last without bounds.
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "contract/search.h"
#include "cpu/host/refine.h"
#include "cpu/host/select.h"

namespace tilefold {

class Candidates {
 public:
  // How far up between its bounds a score is believed to lie: at the lower bound, which is certain,
  // or six times the usual error below the middle. Errors in random directions have a standard
  // deviation of half-width / sqrt(2 dim).
  static constexpr float certain = 0;
  static float wager(int64_t dim);

  Candidates(int n_queries, int64_t k, int64_t capacity, float trust);

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
  // Whether no canonical score has contradicted the bounds so far.
  bool sound() const { return sound_; }
  void keep_sound(bool sound) { sound_ = sound_ && sound; }

  bool full(int q) { return count(q) + block_rows > limits_[static_cast<size_t>(q)]; }
  void append(int q, Candidate candidate) { list(q)[count(q)++] = candidate; }

  // Makes room for a block in list q.
  void tighten(int q, Refiner& refiner);
  // Estimates and scores all that can still be among the k best, and drops the rest.
  void settle(int q, Refiner& refiner);
  // The steps of settle: raise the threshold to about the k-th best trusted value and drop what
  // cannot reach it; score what is left.
  void raise(int q, float trust);
  void score(int q, Refiner& refiner);

 private:
  // -inf if there are fewer than k.
  template <class Value>
  float about_kth_best(int q, Value value);
  void drop_below(int q, float threshold);
  void keep_best(int q, const Refiner& refiner);

  int64_t k_, capacity_;
  float trust_;
  std::unique_ptr<Candidate[]> lists_;  // not initialised: most of it is never touched
  std::vector<int32_t> counts_, limits_;
  std::vector<uint8_t> wide_;  // step 1 was not enough once
  std::vector<float> thresholds_, pruned_, values_;
  std::vector<int64_t> refined_;
  bool sound_ = true;
  Selector select_;
};

}  // namespace tilefold
