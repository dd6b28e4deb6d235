// Streams blocks of documents past groups of queries, keeps what may still be among the k best, and
// scores that canonically. With many queries a thread takes whole groups; with few queries threads
// take ranges of documents, which share their thresholds.
#include "cpu/host/search.h"

#include <algorithm>
#include <atomic>
#include <limits>
#include <memory>
#include <numeric>
#include <utility>
#include <vector>

#include "cpu/host/candidates.h"
#include "cpu/host/fold.h"
#include "cpu/host/group.h"
#include "cpu/host/settle.h"
#include "parallel.h"

namespace tilefold::cpu {
namespace {

// With fewer documents per answer, bounds cost more than they save.
bool filter_pays(const SearchArgs& a) {
  return a.packed.codes && a.documents.dim <= max_packed_dim && a.documents.rows >= 4 * a.k;
}

Strategy first_strategy(const SearchArgs& a) {
  if (!filter_pays(a)) return Strategy::exact;
  return Candidates::optimistic(a.documents.dim) > Candidates::guaranteed ? Strategy::sampled
                                                                          : Strategy::lower_bounds;
}

Strategy safer(Strategy strategy) {
  return strategy == Strategy::sampled      ? Strategy::optimistic
         : strategy == Strategy::optimistic ? Strategy::lower_bounds
                                            : Strategy::exact;
}

// Concatenates the lists of consecutive ranges.
std::unique_ptr<Candidates> joined(const std::vector<Candidates*>& parts, int64_t k,
                                   float optimism) {
  const int n = parts[0]->n_queries();
  int64_t capacity = 0;
  for (int q = 0; q < n; ++q) {
    int64_t total = 0;
    for (Candidates* part : parts) total += part->count(q);
    capacity = std::max(capacity, total);
  }
  auto all = std::make_unique<Candidates>(n, k, capacity, optimism);
  for (Candidates* part : parts) all->keep_sound(part->sound());
  for (int q = 0; q < n; ++q)
    for (Candidates* part : parts) {
      for (int32_t i = 0; i < part->count(q); ++i) all->append(q, part->list(q)[i]);
      all->threshold(q) = std::max(all->threshold(q), part->threshold(q));
      all->pruned(q) = std::max(all->pruned(q), part->pruned(q));
      all->refined(q) += part->refined(q);
    }
  return all;
}

class Search {
 public:
  Search(const SearchArgs& a, const SearchKernels& kernels, int threads, Pulse& pulse)
      : a_(a),
        kernels_(kernels),
        threads_(threads),
        pulse_(pulse),
        strategy_(first_strategy(a)),
        blocks_(block_count(a.documents.rows)) {}

  void run() {
    plan();
    if (strategy_ == Strategy::sampled && (n_ranges_ > 1 || !Sample::possible(blocks_)))
      strategy_ = Strategy::optimistic;
    if (n_ranges_ > 1) return run_by_ranges();
    parallel(n_groups_, [this](int64_t g) {
      Group group = prepare(g);
      const Strategy strategy = strategy_.load(std::memory_order_relaxed);
      auto found = fold(group, 0, blocks_, strategy, nullptr);
      finish(std::move(group), std::move(found), strategy);
    });
  }

 private:
  // The lists of all ranges are kept until the end, so memory limits the number of ranges. There
  // are as many groups as it takes to keep every thread busy.
  void plan() {
    const int64_t n = a_.queries.rows, rows = a_.documents.rows;
    if (static_cast<double>(rows) * n * a_.documents.dim < 2e6) threads_ = 1;
    const int64_t list_bytes = Candidates::bytes_for(a_.k, rows);
    const int64_t max_group = std::clamp<int64_t>(list_bytes_per_thread / list_bytes, 1, 256);
    n_groups_ = (n + max_group - 1) / max_group;
    if (threads_ == 1) return;
    if (n < 16 * threads_) {
      const int64_t ranges = std::clamp<int64_t>(blocks_ / 64, 1, 4 * threads_);
      n_ranges_ = std::clamp<int64_t>(list_bytes_together / (n * list_bytes), 1, ranges);
    }
    const int64_t tasks = n_ranges_ > 1 ? 4 * threads_ : threads_;
    const int64_t busy = (tasks + n_ranges_ - 1) / n_ranges_;
    n_groups_ = std::min(n, (n_groups_ + busy - 1) / busy * busy);
  }

  Group prepare(int64_t g) const {
    const int64_t n = a_.queries.rows, first = n * g / n_groups_;
    std::vector<int64_t> queries(static_cast<size_t>(n * (g + 1) / n_groups_ - first));
    std::iota(queries.begin(), queries.end(), first);
    return make_group(a_, kernels_, filter_pays(a_), std::move(queries));
  }

  std::unique_ptr<Candidates> fold(const Group& group, int64_t begin, int64_t end,
                                   Strategy strategy, std::atomic<float>* shared) const {
    const double share = 1.0 / static_cast<double>(blocks_ * n_groups_);
    return Fold(a_, kernels_, group, strategy, share, pulse_).run(begin, end, shared);
  }

  void run_by_ranges() {
    std::vector<std::atomic<float>> shared(static_cast<size_t>(a_.queries.rows));
    for (auto& threshold : shared) threshold = -std::numeric_limits<float>::infinity();
    std::vector<Group> groups(static_cast<size_t>(n_groups_));
    parallel_for(n_groups_, threads_,
                 [&](int64_t g) { groups[static_cast<size_t>(g)] = prepare(g); });
    const Strategy strategy = strategy_.load(std::memory_order_relaxed);
    std::vector<std::unique_ptr<Candidates>> found(static_cast<size_t>(n_groups_ * n_ranges_));
    // Consecutive tasks share a range of documents, and its codes in the cache.
    parallel(n_groups_ * n_ranges_, [&](int64_t task) {
      const int64_t r = task / n_groups_;
      const Group& group = groups[static_cast<size_t>(task % n_groups_)];
      found[static_cast<size_t>(task)] =
          fold(group, blocks_ * r / n_ranges_, blocks_ * (r + 1) / n_ranges_, strategy,
               shared.data() + group.queries.front());
    });
    parallel(n_groups_, [&](int64_t g) {
      std::vector<Candidates*> parts;
      for (int64_t r = 0; r < n_ranges_; ++r)
        parts.push_back(found[static_cast<size_t>(r * n_groups_ + g)].get());
      auto all = joined(parts, a_.k, optimism(strategy, a_.documents.dim));
      for (int64_t r = 0; r < n_ranges_; ++r) found[static_cast<size_t>(r * n_groups_ + g)].reset();
      finish(std::move(groups[static_cast<size_t>(g)]), std::move(all), strategy);
    });
  }

  // Turns candidates into answers. Answers that cannot be verified are never returned: queries whose
  // threshold was too high are folded again with a safer strategy, and all of the group with
  // canonical scores if bounds were wrong. If these are many of a group, later groups start with
  // that strategy as well.
  void finish(Group group, std::unique_ptr<Candidates> found, Strategy strategy) {
    const int size = group.n;
    for (;;) {
      if (pulse_.stopped()) return;
      std::vector<int64_t> unverified = answer(group, *found, strategy);
      if (unverified.empty()) return;
      strategy = found->sound() ? safer(strategy) : Strategy::exact;
      if (static_cast<int>(unverified.size()) > std::max(8, size / 8)) start_with(strategy);
      found.reset();  // frees memory before it is allocated again
      group = Group();
      group = make_group(a_, kernels_, filter_pays(a_), std::move(unverified));
      found = fold(group, 0, blocks_, strategy, nullptr);
    }
  }

  // Returns the queries that have no answer yet.
  std::vector<int64_t> answer(const Group& group, Candidates& found, Strategy strategy) const {
    settle(a_, kernels_, group, strategy, found);
    const bool exact = strategy == Strategy::exact;
    AnswerMerger merger;
    std::vector<int64_t> unverified;
    for (int q = 0; q < group.n; ++q) {
      if (exact || (found.sound() && verified(a_, group, q, found)))
        merge(a_, kernels_, group, q, found, merger);
      else
        unverified.push_back(group.queries[static_cast<size_t>(q)]);
    }
    return unverified;
  }

  void start_with(Strategy strategy) {
    Strategy current = strategy_.load(std::memory_order_relaxed);
    while (current < strategy &&
           !strategy_.compare_exchange_weak(current, strategy, std::memory_order_relaxed)) {
    }
  }

  void parallel(int64_t tasks, const std::function<void(int64_t)>& task) const {
    parallel_for(tasks, threads_, task, [this] { pulse_.poll(); });
  }

  const SearchArgs& a_;
  const SearchKernels& kernels_;
  int threads_;
  Pulse& pulse_;
  std::atomic<Strategy> strategy_;
  const int64_t blocks_;
  int64_t n_groups_ = 1, n_ranges_ = 1;
};

}  // namespace

void search(const SearchArgs& a, int threads, Pulse& pulse) {
  if (a.queries.rows == 0 || a.documents.rows == 0) return;
  const DefaultFloatEnvironment environment;
  Search(a, active_row().search, threads, pulse).run();
}

}  // namespace tilefold::cpu
