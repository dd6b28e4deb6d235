#include "cpu/host/settle.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "cpu/host/refine.h"

namespace tilefold::cpu {
namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr int64_t cache_line = 64;
constexpr int64_t cached_bytes = 16 << 20;  // documents that stay in L3 between queries
// Documents that stay in L2 while all queries use them, beside as many that are being prefetched.
constexpr int64_t batch_bytes = 192 << 10;

void prefetch(const Matrix& m, int64_t begin, int64_t end) {
  const int64_t size = m.dim * item_bytes(m.dtype), stride = m.row_stride * item_bytes(m.dtype);
  for (int64_t row = begin; row < std::min(end, m.rows); ++row)
    for (int64_t at = 0; at < size; at += cache_line)
      __builtin_prefetch(static_cast<const char*>(m.data) + row * stride + at, 0, 2);
}

// Calls visit(q, candidates, n) in the order of documents, so that a row is read from memory once
// for all the queries that need it, and is prefetched before.
template <class Visit>
void for_each_batch(const Matrix& documents, Candidates& found, Visit visit) {
  const int64_t batch = std::max<int64_t>(1, batch_bytes / (4 * documents.dim));
  std::vector<int32_t> next(static_cast<size_t>(found.n_queries()), 0);
  for (int64_t end = batch; end < documents.rows + batch; end += batch)
    for (int q = 0; q < found.n_queries(); ++q) {
      int32_t& at = next[static_cast<size_t>(q)];
      const int32_t begin = at;
      while (at < found.count(q) && found.list(q)[at].row < end) ++at;
      if (at > begin) visit(q, found.list(q) + begin, at - begin);
      prefetch(documents, end + batch * q / found.n_queries(),
               end + batch * (q + 1) / found.n_queries());
    }
}

struct Answer {
  float score;
  int64_t id;
};

// The k best first, in order.
int64_t sort_best(std::vector<Answer>& answers, int64_t k) {
  const auto better = [](const Answer& a, const Answer& b) {
    return a.score != b.score ? a.score > b.score : a.id < b.id;
  };
  const auto kept = std::min<int64_t>(k, static_cast<int64_t>(answers.size()));
  if (kept < static_cast<int64_t>(answers.size()))
    std::nth_element(answers.begin(), answers.begin() + kept, answers.end(), better);
  std::sort(answers.begin(), answers.begin() + kept, better);
  return kept;
}

void merge_query(const SearchArgs& a, int64_t query, int q, const Refiner& refiner,
                 Candidates& found) {
  float* scores = a.scores + query * a.k;
  int64_t* ids = a.ids + query * a.k;
  std::vector<Answer> answers;
  for (int64_t i = 0; i < a.k && ids[i] >= 0; ++i) answers.push_back({ordered(scores[i]), ids[i]});
  for (int32_t i = 0; i < found.count(q); ++i) {
    const Candidate& c = found.list(q)[i];
    if (c.upper >= found.threshold(q)) answers.push_back({c.upper, refiner.document_id(c.row)});
  }
  const int64_t kept = sort_best(answers, a.k);
  for (int64_t i = 0; i < kept; ++i) {
    scores[i] = answers[static_cast<size_t>(i)].score;
    ids[i] = answers[static_cast<size_t>(i)].id;
  }
  if (a.refined)  // any number of the caller's, so that the sum may wrap around
    a.refined[query] = static_cast<int64_t>(static_cast<uint64_t>(a.refined[query]) +
                                            static_cast<uint64_t>(found.refined(q)));
  if (a.pruned_bound) a.pruned_bound[query] = std::max(a.pruned_bound[query], found.pruned(q));
}

}  // namespace

void settle(const SearchArgs& a, const SearchKernels& kernels, const Group& group,
            Strategy strategy, Candidates& found) {
  Refiner refiner(a, kernels, group);
  int64_t total = 0;
  for (int q = 0; q < group.n; ++q) {
    found.raise_threshold(q, optimism(strategy, a.documents.dim));
    total += found.count(q);
  }
  const int64_t bytes = a.documents.rows * a.documents.dim * 4;
  if (total <= a.documents.rows || bytes <= cached_bytes) {
    for (int q = 0; q < group.n; ++q) found.settle(q, refiner);
    return found.keep_sound(refiner.sound());
  }
  for_each_batch(a.documents, found, [&](int q, Candidate* candidates, int64_t n) {
    refiner.estimate(q, candidates, n, -infinity);
  });
  for (int q = 0; q < group.n; ++q) found.raise_threshold(q, Candidates::guaranteed);
  for_each_batch(a.documents, found, [&](int q, Candidate* candidates, int64_t n) {
    found.refined(q) += refiner.score(q, candidates, n);
  });
  found.keep_sound(refiner.sound());
}

bool verified(const SearchArgs& a, const Group& group, Candidates& found) {
  if (!found.sound()) return false;
  for (int q = 0; q < group.n; ++q) {
    const int64_t query = group.first + q;
    const float threshold = found.threshold(q);
    if (threshold <= initial_threshold(a, query)) continue;
    const float* earlier = a.scores + query * a.k;
    const auto reaches = [&](float score) { return score >= threshold; };
    const auto now = std::count_if(found.list(q), found.list(q) + found.count(q),
                                   [&](const Candidate& c) { return reaches(c.lower); });
    if (now + std::count_if(earlier, earlier + a.k, reaches) < a.k) return false;
  }
  return true;
}

void merge(const SearchArgs& a, const SearchKernels& kernels, const Group& group,
           Candidates& found) {
  const Refiner refiner(a, kernels, group);
  for (int q = 0; q < group.n; ++q) merge_query(a, group.first + q, q, refiner, found);
}

}  // namespace tilefold::cpu
