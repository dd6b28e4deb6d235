#include "candidates.h"

#include <algorithm>
#include <functional>
#include <limits>

namespace tilefold {

Candidates::Candidates(int n_queries, int64_t k, int64_t capacity)
    : k_(k),
      capacity_(capacity),
      lists_(new Candidate[static_cast<size_t>(n_queries * capacity)]),
      counts_(static_cast<size_t>(n_queries)),
      limits_(static_cast<size_t>(n_queries),
              static_cast<int32_t>(std::min(capacity, 4 * k + 256 + block_rows))),
      wide_(static_cast<size_t>(n_queries)),
      thresholds_(static_cast<size_t>(n_queries), -std::numeric_limits<float>::infinity()),
      pruned_(static_cast<size_t>(n_queries), -std::numeric_limits<float>::infinity()),
      refined_(static_cast<size_t>(n_queries)) {}

// At least 2k, so that keeping the k best frees half; room for what bounds leave open around the
// k-th best (3k with 8-bit codes, 8k with 7-bit codes, on random vectors), so that step 3 is rare; at most all rows, so that a
// search for nearly everything never tightens.
int64_t Candidates::capacity_for(int64_t k, int64_t rows) {
  const int64_t roomy = 20 * k + 512;
  return std::min(roomy, rows) + block_rows;
}

void Candidates::drop_below(int q, float threshold) {
  this->threshold(q) = threshold = std::max(this->threshold(q), threshold);
  Candidate* const begin = list(q);
  Candidate* kept = begin;
  for (const Candidate* c = begin; c != begin + count(q); ++c) {
    if (c->upper >= threshold)
      *kept++ = *c;
    else if (!is_exact(*c))
      pruned(q) = std::max(pruned(q), c->upper);
  }
  count(q) = static_cast<int32_t>(kept - begin);
}

float Candidates::refine(int q, int32_t begin, int32_t end, float from, const Scorer& score) {
  Candidate* const candidates = list(q);
  float lowest = std::numeric_limits<float>::infinity();
  rows_.clear();
  places_.clear();
  for (int32_t i = begin; i < end; ++i) {
    const Candidate& c = candidates[i];
    if (!(centre_of(c) >= from)) continue;
    if (is_exact(c)) {
      lowest = std::min(lowest, c.lower);
    } else {
      rows_.push_back(c.row);
      places_.push_back(i);
    }
  }
  if (rows_.empty()) return lowest;
  scores_.resize(rows_.size());
  score(q, rows_.data(), static_cast<int64_t>(rows_.size()), scores_.data());
  refined(q) += static_cast<int64_t>(rows_.size());
  for (size_t i = 0; i < places_.size(); ++i) {
    candidates[places_[i]] = {scores_[i], scores_[i], ~rows_[i]};
    lowest = std::min(lowest, scores_[i]);
  }
  return lowest;
}

void Candidates::keep_best(int q, const IdOf& id_of) {
  Candidate* candidates = list(q);
  if (count(q) <= k_) return;
  const auto better = [&](const Candidate& a, const Candidate& b) {
    return a.upper != b.upper ? a.upper > b.upper : id_of(row_of(a)) < id_of(row_of(b));
  };
  std::nth_element(candidates, candidates + (k_ - 1), candidates + count(q), better);
  count(q) = static_cast<int32_t>(k_);
  threshold(q) = std::max(threshold(q), candidates[k_ - 1].upper);
  std::sort(candidates, candidates + k_,
            [](const Candidate& a, const Candidate& b) { return row_of(a) < row_of(b); });
}

void Candidates::tighten(int q, const Scorer& score, const IdOf& id_of) {
  int32_t& limit = limits_[static_cast<size_t>(q)];
  if (!wide_[static_cast<size_t>(q)]) {
    drop_below(q, reached(q));
    if (2 * count(q) <= limit) return;
    if (limit < capacity_) {
      limit = static_cast<int32_t>(std::min<int64_t>(2 * limit, capacity_));
      if (!full(q)) return;
    }
    wide_[static_cast<size_t>(q)] = 1;
  }
  const int64_t enough = capacity_ / 2;
  drop_below(q, refine(q, 0, count(q), promising(q), score));
  if (count(q) <= enough) return;
  refine(q, 0, count(q), -std::numeric_limits<float>::infinity(), score);
  keep_best(q, id_of);
}

}  // namespace tilefold
