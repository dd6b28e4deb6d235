// Stream blocks of documents past groups of queries; keep what may still be among the k best; score
// that canonically. With many queries a thread takes whole groups; with few, ranges of documents,
// which share their thresholds.
#include "cpu/host/search.h"

#include <algorithm>
#include <atomic>
#include <limits>
#include <memory>
#include <vector>

#include "cpu/host/candidates.h"
#include "cpu/host/group.h"
#include "parallel.h"
#include "cpu/host/refine.h"

namespace tilefold {
namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr int64_t cache_line = 64;
constexpr int64_t blocks_per_beat = 16;
constexpr int64_t cached_bytes = 16 << 20;   // documents that stay in L3 between queries
constexpr int64_t refine_bytes = 192 << 10;  // documents in L2 while all queries use them, and as
                                             // many on their way

// Fewer documents per answer than this, and bounds cost more than they save.
bool filter_pays(const SearchArgs& a) {
  return a.packed.codes && a.documents.dim <= max_packed_dim && a.documents.rows >= 4 * a.k;
}

// How thresholds come about, each way surer and slower than the one before: from wagers on the
// filter's bounds, from lower bounds, from canonical scores without a filter.
enum class Way { wager, bounds, scores };

class Search {
 public:
  Search(const SearchArgs& a, const Kernels& row, int threads, Pulse& pulse)
      : a_(a), kernels_(row.search), threads_(threads), pulse_(pulse), way_(first_way(a)) {}

  void run() {
    plan();
    const auto idle = [this] { pulse_.ask(); };
    if (n_ranges_ > 1) return run_by_ranges(idle);
    parallel_for(
        n_groups_, threads_,
        [this](int64_t g) {
          const Group group = prepare(g);
          const Way way = way_.load(std::memory_order_relaxed);
          finish(group, fold(group, 0, blocks_, way, nullptr), way);
        },
        idle);
  }

 private:
  static Way first_way(const SearchArgs& a) {
    if (!filter_pays(a)) return Way::scores;
    return Candidates::wager(a.documents.dim) > Candidates::certain ? Way::wager : Way::bounds;
  }

  float trust(Way way) const {
    return way == Way::wager ? Candidates::wager(a_.documents.dim) : Candidates::certain;
  }

  // Lists of all ranges are kept until the end, so their number is what memory allows; there are as
  // many groups as it takes to keep every thread busy.
  void plan() {
    const int64_t n = a_.queries.rows, rows = a_.documents.rows;
    blocks_ = block_count(rows);
    if (static_cast<double>(rows) * n * a_.documents.dim < 2e6) threads_ = 1;
    const int64_t list_bytes = Candidates::bytes_for(a_.k, rows);
    const int64_t largest = std::clamp<int64_t>(list_bytes_per_thread / list_bytes, 1, 256);
    n_groups_ = (n + largest - 1) / largest;
    if (threads_ == 1) return;
    if (n < 16 * threads_) {
      const int64_t ranges = std::clamp<int64_t>(blocks_ / 64, 1, 4 * threads_);
      n_ranges_ = std::clamp<int64_t>(range_list_bytes / (n * list_bytes), 1, ranges);
    }
    const int64_t tasks = n_ranges_ > 1 ? 4 * threads_ : threads_;
    const int64_t busy = (tasks + n_ranges_ - 1) / n_ranges_;
    n_groups_ = std::min(n, (n_groups_ + busy - 1) / busy * busy);
  }

  Group prepare(int64_t g) const {
    const int64_t n = a_.queries.rows, first = n * g / n_groups_;
    return make_group(a_, kernels_, filter_pays(a_), first, n * (g + 1) / n_groups_ - first);
  }

  uint32_t mask(int64_t block) const {
    const int64_t left = a_.documents.rows - block * block_rows;
    const uint32_t inside = left >= block_rows ? ~0u : (1u << left) - 1;
    return a_.allowed ? a_.allowed[block] & inside : inside;
  }

  bool excluded(int64_t query, int64_t id) const {
    if (!a_.exclude_offsets) return false;
    return std::binary_search(a_.exclude_ids + a_.exclude_offsets[query],
                              a_.exclude_ids + a_.exclude_offsets[query + 1], id);
  }

  // What an answer must reach before any document of this search is seen.
  float floor(int64_t query) const {
    const float least = a_.min_score ? a_.min_score[query] : -infinity;
    return std::max(least, a_.scores[query * a_.k + a_.k - 1]);
  }

  // Folds blocks [begin, end) into fresh candidate lists.
  std::unique_ptr<Candidates> fold(const Group& group, int64_t begin, int64_t end, Way way,
                                   std::atomic<float>* shared) const {
    const bool filter = way != Way::scores;
    const int64_t rows = std::min(end * block_rows, a_.documents.rows) - begin * block_rows;
    auto found = std::make_unique<Candidates>(group.n, a_.k, Candidates::capacity_for(a_.k, rows),
                                              trust(way));
    for (int q = 0; q < group.n; ++q) found->threshold(q) = floor(group.first + q);
    std::vector<uint8_t> scratch;
    if (filter) scratch.resize(static_cast<size_t>(block_bytes(a_.documents.dim) + cache_line));
    std::vector<int32_t> before(static_cast<size_t>(group.n));
    Refiner refiner(a_, kernels_, group);
    const double share = 1.0 / static_cast<double>(blocks_ * n_groups_);
    for (int64_t block = begin; block < end; ++block) {
      if ((block - begin) % blocks_per_beat == 0) {
        if (!pulse_.beat(share * static_cast<double>(std::min(blocks_per_beat, end - block))))
          break;
        if (shared) exchange_thresholds(*found, shared);
      }
      const uint32_t documents = mask(block);
      if (!documents) continue;
      std::copy_n(found->counts(), group.n, before.data());
      if (filter)
        scan(group, block, documents, *found, scratch.data());
      else
        score_block(group, block, documents, refiner, *found);
      for (int q = 0; q < group.n; ++q) {
        if (found->count(q) == before[static_cast<size_t>(q)]) continue;
        if (a_.exclude_offsets || a_.max_score)
          drop_unwanted(group, q, before[static_cast<size_t>(q)], refiner, *found);
        if (found->full(q)) found->tighten(q, refiner);
      }
    }
    found->keep_sound(refiner.sound());
    return found;
  }

  void scan(const Group& group, int64_t block, uint32_t documents, Candidates& found,
            uint8_t* scratch) const {
    const int64_t dim = padded_dim(a_.documents.dim);
    const auto address = reinterpret_cast<uintptr_t>(scratch);
    ScanArgs args;
    args.query_codes = group.codes.data();
    args.query_bounds = group.bounds.data();
    args.thresholds = found.thresholds();
    args.n_queries = group.n;
    args.dim = dim;
    args.codes = a_.packed.codes + block * block_bytes(dim);
    args.bounds = a_.packed.bounds + block * block_bounds;
    args.mask = documents;
    args.first_row = block * block_rows;
    args.candidates = found.lists();
    args.counts = found.counts();
    args.capacity = found.capacity();
    args.pruned = a_.pruned_bound ? found.pruned_bounds() : nullptr;
    args.scratch = scratch + (cache_line - address % cache_line) % cache_line;
    kernels_.scan(args);
  }

  void score_block(const Group& group, int64_t block, uint32_t documents, const Refiner& refiner,
                   Candidates& found) const {
    const int64_t first = block * block_rows;
    const int64_t n = std::min<int64_t>(block_rows, a_.documents.rows - first);
    float scores[block_rows];
    for (int q = 0; q < group.n; ++q) {
      refiner.score_rows(q, first, n, scores);
      for (int64_t i = 0; i < n; ++i) {
        if (!(documents >> i & 1)) continue;
        ++found.refined(q);
        if (scores[i] >= found.threshold(q)) found.append(q, {scores[i], first + i});
      }
    }
  }

  // Takes out of the newest candidates of q what the query excludes by id or by its highest score.
  // What may lie above that score is scored at once: it must not raise the threshold.
  void drop_unwanted(const Group& group, int q, int32_t begin, Refiner& refiner,
                     Candidates& found) const {
    const int64_t query = group.first + q;
    const float most = a_.max_score ? a_.max_score[query] : infinity;
    Candidate* list = found.list(q);
    int32_t kept = begin;
    for (int32_t i = begin; i < found.count(q); ++i) {
      Candidate c = list[i];
      if (c.lower > most || excluded(query, refiner.id_of(c.row))) continue;
      if (c.upper > most) found.refined(q) += refiner.score(q, &c, 1);
      if (c.lower > most) continue;
      list[kept++] = c;
    }
    found.count(q) = kept;
  }

  static void exchange_thresholds(Candidates& found, std::atomic<float>* shared) {
    for (int q = 0; q < found.n_queries(); ++q) {
      float theirs = shared[q].load(std::memory_order_relaxed);
      while (
          theirs < found.threshold(q) &&
          !shared[q].compare_exchange_weak(theirs, found.threshold(q), std::memory_order_relaxed)) {
      }
      found.threshold(q) = std::max(found.threshold(q), theirs);
    }
  }

  void run_by_ranges(const std::function<void()>& idle) {
    std::vector<std::atomic<float>> shared(static_cast<size_t>(a_.queries.rows));
    for (auto& threshold : shared) threshold = -infinity;
    std::vector<Group> groups(static_cast<size_t>(n_groups_));
    parallel_for(n_groups_, threads_,
                 [&](int64_t g) { groups[static_cast<size_t>(g)] = prepare(g); });
    const Way way = way_.load(std::memory_order_relaxed);
    std::vector<std::unique_ptr<Candidates>> found(static_cast<size_t>(n_groups_ * n_ranges_));
    parallel_for(
        n_groups_ * n_ranges_, threads_,
        [&](int64_t task) {  // neighbours in time share a range, and its codes in the cache
          const int64_t r = task / n_groups_;
          const Group& group = groups[static_cast<size_t>(task % n_groups_)];
          found[static_cast<size_t>(task)] =
              fold(group, blocks_ * r / n_ranges_, blocks_ * (r + 1) / n_ranges_, way,
                   shared.data() + group.first);
        },
        idle);
    parallel_for(
        n_groups_, threads_,
        [&](int64_t g) {
          std::vector<Candidates*> parts;
          for (int64_t r = 0; r < n_ranges_; ++r)
            parts.push_back(found[static_cast<size_t>(r * n_groups_ + g)].get());
          std::unique_ptr<Candidates> all = joined(parts, way);
          for (int64_t r = 0; r < n_ranges_; ++r)
            found[static_cast<size_t>(r * n_groups_ + g)].reset();
          finish(groups[static_cast<size_t>(g)], std::move(all), way);
        },
        idle);
  }

  // Lists of consecutive ranges, one after the other.
  std::unique_ptr<Candidates> joined(const std::vector<Candidates*>& parts, Way way) const {
    const int n = parts[0]->n_queries();
    int64_t most = 0;
    for (int q = 0; q < n; ++q) {
      int64_t total = 0;
      for (Candidates* part : parts) total += part->count(q);
      most = std::max(most, total);
    }
    auto all = std::make_unique<Candidates>(n, a_.k, most, trust(way));
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

  // Settles the candidates. What is not certified is never returned: a lost wager on a threshold is
  // folded anew from lower bounds, wrong bounds from canonical scores; later groups begin there, too.
  void finish(const Group& group, std::unique_ptr<Candidates> found, Way way) {
    if (pulse_.stopped()) return;
    settle(group, *found, way);
    if (way != Way::scores && !certified(group, *found)) {
      way = way == Way::wager && found->sound() ? Way::bounds : Way::scores;
      way_.store(way, std::memory_order_relaxed);
      found.reset();  // before as much is needed again
      return finish(group, fold(group, 0, blocks_, way, nullptr), way);
    }
    Refiner refiner(a_, kernels_, group);
    for (int q = 0; q < group.n; ++q) merge(group, q, refiner, *found);
  }

  void settle(const Group& group, Candidates& found, Way way) const {
    Refiner refiner(a_, kernels_, group);
    int64_t total = 0;
    for (int q = 0; q < group.n; ++q) {
      found.raise(q, trust(way));
      total += found.count(q);
    }
    const int64_t bytes = a_.documents.rows * a_.documents.dim * 4;
    if (total <= a_.documents.rows || bytes <= cached_bytes) {
      for (int q = 0; q < group.n; ++q) found.settle(q, refiner);
      return found.keep_sound(refiner.sound());
    }
    by_document(found, [&](int q, Candidate* candidates, int64_t n) {
      refiner.estimate(q, candidates, n, -infinity);
    });
    for (int q = 0; q < group.n; ++q) found.raise(q, Candidates::certain);
    by_document(found, [&](int q, Candidate* candidates, int64_t n) {
      found.refined(q) += refiner.score(q, candidates, n);
    });
    found.keep_sound(refiner.sound());
  }

  // Visits candidates in the order of documents, so that a row comes from memory once for all the
  // queries that need it, and before they do.
  template <class Visit>
  void by_document(Candidates& found, Visit visit) const {
    const int64_t together = std::max<int64_t>(1, refine_bytes / (4 * a_.documents.dim));
    std::vector<int32_t> next(static_cast<size_t>(found.n_queries()), 0);
    for (int64_t end = together; end < a_.documents.rows + together; end += together)
      for (int q = 0; q < found.n_queries(); ++q) {
        int32_t& at = next[static_cast<size_t>(q)];
        const int32_t begin = at;
        while (at < found.count(q) && found.list(q)[at].row < end) ++at;
        if (at > begin) visit(q, found.list(q) + begin, at - begin);
        prefetch(end + together * q / found.n_queries(),
                 end + together * (q + 1) / found.n_queries());
      }
  }

  void prefetch(int64_t begin, int64_t end) const {
    const Matrix& m = a_.documents;
    const int64_t size = m.dim * item_bytes(m.dtype), stride = m.row_stride * item_bytes(m.dtype);
    for (int64_t row = begin; row < std::min(end, m.rows); ++row)
      for (int64_t at = 0; at < size; at += cache_line)
        __builtin_prefetch(static_cast<const char*>(m.data) + row * stride + at, 0, 2);
  }

  // Whether k documents reach each threshold, so that nothing left out can be among the k best, and no
  // score contradicted its bounds.
  bool certified(const Group& group, Candidates& found) const {
    if (!found.sound()) return false;
    for (int q = 0; q < group.n; ++q) {
      const int64_t query = group.first + q;
      const float threshold = found.threshold(q);
      if (threshold <= floor(query)) continue;
      const float* earlier = a_.scores + query * a_.k;
      const auto reached = [&](float score) { return score >= threshold; };
      const auto now = std::count_if(found.list(q), found.list(q) + found.count(q),
                                     [&](const Candidate& c) { return reached(c.lower); });
      if (now + std::count_if(earlier, earlier + a_.k, reached) < a_.k) return false;
    }
    return true;
  }

  void merge(const Group& group, int q, const Refiner& refiner, Candidates& found) const {
    struct Answer {
      float score;
      int64_t id;
    };
    const int64_t query = group.first + q;
    float* scores = a_.scores + query * a_.k;
    int64_t* ids = a_.ids + query * a_.k;
    std::vector<Answer> answers;
    for (int64_t i = 0; i < a_.k && ids[i] >= 0; ++i) answers.push_back({scores[i], ids[i]});
    for (int32_t i = 0; i < found.count(q); ++i) {
      const Candidate& c = found.list(q)[i];
      if (c.upper >= found.threshold(q)) answers.push_back({c.upper, refiner.id_of(c.row)});
    }
    const auto better = [](const Answer& a, const Answer& b) {
      return a.score != b.score ? a.score > b.score : a.id < b.id;
    };
    const auto kept = std::min<int64_t>(a_.k, static_cast<int64_t>(answers.size()));
    if (kept < static_cast<int64_t>(answers.size()))
      std::nth_element(answers.begin(), answers.begin() + kept, answers.end(), better);
    std::sort(answers.begin(), answers.begin() + kept, better);
    for (int64_t i = 0; i < kept; ++i) {
      scores[i] = answers[static_cast<size_t>(i)].score;
      ids[i] = answers[static_cast<size_t>(i)].id;
    }
    if (a_.refined) a_.refined[query] += found.refined(q);
    if (a_.pruned_bound) a_.pruned_bound[query] = std::max(a_.pruned_bound[query], found.pruned(q));
  }

  const SearchArgs& a_;
  const SearchKernels& kernels_;
  int threads_;
  Pulse& pulse_;
  std::atomic<Way> way_;
  int64_t blocks_ = 0, n_groups_ = 1, n_ranges_ = 1;
};

}  // namespace

void search(const SearchArgs& a, const Kernels& row, int threads, Pulse& pulse) {
  if (a.queries.rows == 0 || a.documents.rows == 0) return;
  const DefaultFloatEnvironment environment;
  Search(a, row, threads, pulse).run();
}

}  // namespace tilefold
