#include "cpu/host/candidates.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace tilefold::cpu {
namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();

// The score that a candidate is assumed to reach. An unbounded one is assumed to reach nothing.
float assumed_score(const Candidate& c, float optimism) {
  const bool open = c.lower < c.upper && c.upper <= 3e38f;
  return open ? c.lower + optimism * (c.upper - c.lower) : c.lower;
}

}  // namespace

Candidates::Candidates(int n_queries, int64_t k, int64_t capacity, float optimism)
    : k_(k),
      capacity_(capacity),
      optimism_(optimism),
      lists_(new Candidate[static_cast<size_t>(n_queries * capacity)]),
      counts_(static_cast<size_t>(n_queries)),
      limits_(static_cast<size_t>(n_queries)),
      wide_(static_cast<size_t>(n_queries)),
      thresholds_(static_cast<size_t>(n_queries), -infinity),
      pruned_(static_cast<size_t>(n_queries), -infinity),
      refined_(static_cast<size_t>(n_queries)) {
  set_rank(k);
}

void Candidates::set_rank(int64_t rank) {
  rank_ = rank;
  for (int q = 0; q < n_queries(); ++q) {
    const int64_t roomy = std::max(4 * rank + 256, 2 * int64_t{count(q)}) + block_rows;
    limits_[static_cast<size_t>(q)] = static_cast<int32_t>(
        wide_[static_cast<size_t>(q)] ? capacity_ : std::min(capacity_, roomy));
  }
}

// At least 2k, so that keeping the k best frees half of the list. Enough for the candidates whose
// bounds overlap the k-th best (1.5k to 2k of embeddings, 3k to 5k of random vectors), so that step
// 2 is rare. At most all rows, so that a search for nearly everything never tightens.
int64_t Candidates::capacity_for(int64_t k, int64_t rows) {
  const int64_t roomy = 6 * k + 2048;
  return std::min(roomy, rows) + block_rows;
}

float Candidates::optimistic(int64_t dim) {
  const double errors = 6 / std::sqrt(2.0 * static_cast<double>(dim));
  return static_cast<float>(0.5 * std::max(0.0, 1 - errors));
}

template <class Value>
float Candidates::best_at_rank(int q, Value value) {
  const int64_t n = count(q);
  values_.resize(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) values_[static_cast<size_t>(i)] = ordered(value(list(q)[i]));
  return select_.kth_largest(values_.data(), n, rank_);
}

void Candidates::raise_threshold(int q, float optimism) {
  drop_below(
      q, best_at_rank(q, [optimism](const Candidate& c) { return assumed_score(c, optimism); }));
}

void Candidates::drop_below(int q, float threshold) {
  this->threshold(q) = threshold = std::max(this->threshold(q), threshold);
  Candidate* const begin = list(q);
  Candidate* kept = begin;
  float pruned = this->pruned(q);
  for (const Candidate *c = begin, *end = begin + count(q); c != end; ++c) {
    // Branch-free, since the outcome is unpredictable.
    const bool stays = c->upper >= threshold;
    pruned = std::max(pruned, stays || c->stage == Stage::scored ? -infinity : c->upper);
    *kept = *c;
    kept += stays;
  }
  this->pruned(q) = pruned;
  count(q) = static_cast<int32_t>(kept - begin);
}

void Candidates::sort(int q) {
  const auto earlier = [](const Candidate& a, const Candidate& b) { return a.row < b.row; };
  Candidate* const end = list(q) + count(q);
  std::inplace_merge(list(q), std::is_sorted_until(list(q), end, earlier), end, earlier);
}

void Candidates::score(int q, Refiner& refiner) {
  refined(q) += refiner.score(q, list(q), count(q));
}

void Candidates::keep_best(int q, const Refiner& refiner) {
  Candidate* candidates = list(q);
  if (count(q) <= k_) return;
  const auto better = [&](const Candidate& a, const Candidate& b) {
    return a.upper != b.upper ? a.upper > b.upper
                              : refiner.document_id(a.row) < refiner.document_id(b.row);
  };
  std::nth_element(candidates, candidates + (k_ - 1), candidates + count(q), better);
  count(q) = static_cast<int32_t>(k_);
  threshold(q) = std::max(threshold(q), candidates[k_ - 1].upper);
  std::sort(candidates, candidates + k_,
            [](const Candidate& a, const Candidate& b) { return a.row < b.row; });
}

void Candidates::tighten(int q, Refiner& refiner) {
  int32_t& limit = limits_[static_cast<size_t>(q)];
  if (!wide_[static_cast<size_t>(q)]) {
    raise_threshold(q, optimism_);
    if (2 * int64_t{count(q)} <= limit) return;
    limit = static_cast<int32_t>(std::min(2 * int64_t{limit}, capacity_));
    if (8 * int64_t{count(q)} <= 7 * (int64_t{limit} - block_rows)) return;
    wide_[static_cast<size_t>(q)] = 1;
  }
  const int64_t enough = capacity_ / 2;
  refiner.estimate(q, list(q), count(q), best_at_rank(q, midpoint));
  raise_threshold(q, optimism_);
  if (count(q) <= enough) return;
  refiner.estimate(q, list(q), count(q), -infinity);
  raise_threshold(q, guaranteed);
  if (count(q) <= enough) return;
  score(q, refiner);
  keep_best(q, refiner);
}

}  // namespace tilefold::cpu
