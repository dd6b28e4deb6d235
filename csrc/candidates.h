// What a group of queries still holds for possible: for each query a list of documents with bounds
// on their scores, and a threshold that k documents are known to reach. A list is full at a limit
// that begins low, so that the threshold rises early and lists stay in the cache. A full list is
// tightened in steps, each dearer than the one before, until at least half of it is free:
//   1. raise the threshold to the k-th best lower bound and drop what cannot reach it;
//      if that is not enough, double the limit, up to the capacity;
//   2. score the k most promising canonically: the worst of them is nearly the threshold that an
//      exact scan would have;
//   3. score the whole list and keep the k best. This always suffices.
// A list for which step 1 was not enough once (its bounds are wide) begins with step 2 from then on.
// Lists stay in the order in which documents were met, so later passes read memory forwards.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "args.h"
#include "select.h"

namespace tilefold {

// Scores rows of documents canonically for query q of the group.
using Scorer = std::function<void(int q, const int64_t* rows, int64_t n, float* scores)>;
// Best first: score descending, then id ascending.
using IdOf = std::function<int64_t(int64_t row)>;

inline bool is_exact(const Candidate& c) { return c.row < 0; }
// Exact and unbounded candidates have their upper bound as centre: the first because it is the score
// (which may be infinite), the second so that they come first.
inline float centre_of(const Candidate& c) {
  const bool open = c.lower < c.upper && c.upper <= 3e38f;
  return open ? c.lower + (c.upper - c.lower) / 2 : c.upper;
}
inline int64_t row_of(const Candidate& c) { return c.row < 0 ? ~c.row : c.row; }

class Candidates {
 public:
  Candidates(int n_queries, int64_t k, int64_t capacity);

  static int64_t capacity_for(int64_t k, int64_t rows);

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

  bool full(int q) { return count(q) + block_rows > limits_[static_cast<size_t>(q)]; }
  void append(int q, Candidate candidate) { list(q)[count(q)++] = candidate; }

  // Makes room for a block in list q.
  void tighten(int q, const Scorer& score, const IdOf& id_of);
  // A score that k documents are known to reach: about the k-th best lower bound.
  float reached(int q) {
    return about_kth_best(q, [](const Candidate& c) { return c.lower; });
  }
  // About the k-th best centre of bounds: at least k candidates, the promising ones, have it.
  float promising(int q) { return about_kth_best(q, centre_of); }
  // Scores canonically the candidates [begin, end) of q whose centre is at least `from`; returns the
  // lowest of their scores.
  float refine(int q, int32_t begin, int32_t end, float from, const Scorer& score);
  // Raises the threshold and drops what cannot reach it.
  void drop_below(int q, float threshold);

 private:
  // -inf if there are fewer than k.
  template <class Value>
  float about_kth_best(int q, Value value);
  void keep_best(int q, const IdOf& id_of);

  int64_t k_, capacity_;
  std::unique_ptr<Candidate[]> lists_;  // not initialised: most of it is never touched
  std::vector<int32_t> counts_, limits_;
  std::vector<uint8_t> wide_;  // step 1 was not enough once
  std::vector<float> thresholds_, pruned_, values_, scores_;
  std::vector<int64_t> refined_, rows_;
  std::vector<int32_t> places_;
  Selector select_;
};

template <class Value>
float Candidates::about_kth_best(int q, Value value) {
  const int64_t n = count(q);
  values_.resize(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) values_[static_cast<size_t>(i)] = value(list(q)[i]);
  return select_.reached_by(values_.data(), n, k_);
}

}  // namespace tilefold
