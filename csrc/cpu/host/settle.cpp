#include "cpu/host/settle.h"

#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

#include "cpu/host/prefetch.h"
#include "cpu/host/refine.h"

namespace tilefold::cpu {
namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();
// With fewer candidates per answer, an estimate costs more than it saves.
constexpr int64_t max_scored_per_answer = 3;
// Documents that stay in L2 or L3 while all queries use them, beside as many that are being
// prefetched. In a smaller window a query has so few candidates that visiting them costs more than
// waiting for memory saves (400 KB: 3 to 7 % slower at k = 1,000 and 768 dimensions).
constexpr int64_t batch_bytes = 1 << 20;

void prefetch(const Matrix& m, int64_t begin, int64_t end) {
  const int64_t size = item_bytes(m.dtype), stride = m.row_stride * size;
  prefetch_rows(static_cast<const char*>(m.data) + begin * stride, std::min(end, m.rows) - begin,
                m.dim * size, stride);
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

}  // namespace

void settle(const SearchArgs& a, const SearchKernels& kernels, const Group& group,
            Strategy strategy, Candidates& found) {
  Refiner refiner(a, kernels, group);
  int64_t total = 0;
  for (int q = 0; q < group.n; ++q) {
    found.raise_threshold(q, optimism(strategy, a.documents.dim));
    if (strategy == Strategy::sampled) found.sort(q);
    total += found.count(q);
  }
  const bool by_document = 2 * total > a.documents.rows;
  const auto visit_all = [&](auto visit) {
    if (by_document) return for_each_batch(a.documents, found, visit);
    for (int q = 0; q < group.n; ++q) visit(q, found.list(q), found.count(q));
  };
  if (total > max_scored_per_answer * a.k * group.n) {
    visit_all([&](int q, Candidate* candidates, int64_t n) {
      refiner.estimate(q, candidates, n, -infinity);
    });
    for (int q = 0; q < group.n; ++q) found.raise_threshold(q, Candidates::guaranteed);
  }
  visit_all([&](int q, Candidate* candidates, int64_t n) {
    found.refined(q) += refiner.score(q, candidates, n);
  });
  found.keep_sound(refiner.sound());
}

bool verified(const SearchArgs& a, const Group& group, int q, Candidates& found) {
  const float threshold = found.threshold(q);
  if (threshold <= group.thresholds[static_cast<size_t>(q)]) return true;
  const float* earlier = a.scores + group.queries[static_cast<size_t>(q)] * a.k;
  const auto reaches = [&](float score) { return score >= threshold; };
  const auto now = std::count_if(found.list(q), found.list(q) + found.count(q),
                                 [&](const Candidate& c) { return reaches(c.lower); });
  return now + std::count_if(earlier, earlier + a.k, reaches) >= a.k;
}

void merge(const SearchArgs& a, const SearchKernels& kernels, const Group& group, int q,
           Candidates& found, AnswerMerger& merger) {
  const int64_t query = group.queries[static_cast<size_t>(q)];
  const Refiner refiner(a, kernels, group);
  std::vector<Answer> scored;
  for (int32_t i = 0; i < found.count(q); ++i) {
    const Candidate& c = found.list(q)[i];
    if (c.upper >= found.threshold(q)) scored.push_back({c.upper, refiner.document_id(c.row)});
  }
  merger.merge(a, query, std::move(scored));
  if (a.refined)  // any number of the caller's, so that the sum may wrap around
    a.refined[query] = static_cast<int64_t>(static_cast<uint64_t>(a.refined[query]) +
                                            static_cast<uint64_t>(found.refined(q)));
  if (a.pruned_bound) a.pruned_bound[query] = std::max(a.pruned_bound[query], found.pruned(q));
}

}  // namespace tilefold::cpu
