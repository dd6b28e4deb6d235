// Stream blocks of documents past groups of queries; keep what may still be among the k best; score
// that canonically. With many queries a thread takes whole groups; with few, ranges of documents,
// which share their thresholds.
#include "search.h"

#include <algorithm>
#include <atomic>
#include <limits>
#include <memory>
#include <vector>

#include "candidates.h"
#include "parallel.h"

namespace tilefold {
namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr int64_t cache_line = 64;
constexpr int64_t blocks_per_beat = 16;
constexpr int64_t range_list_bytes = 64 << 20;  // lists of all ranges of documents together
constexpr int64_t cached_bytes = 16 << 20;      // documents that stay in L3 between queries
constexpr int64_t refine_bytes = 384 << 10;  // documents that stay in L2 while all queries use them

// Fewer documents per answer than this, and bounds cost more than they save.
bool filter_pays(const SearchArgs& a) {
  return a.packed.codes && a.documents.dim <= max_packed_dim && a.documents.rows >= 4 * a.k;
}

struct Group {
  int64_t first;
  int n;
  std::vector<double> queries;     // [n][dim]
  std::vector<int8_t> codes;       // tiles of query_tile: [dim / 4][queries in tile][4]
  std::vector<QueryBound> bounds;  // [n]
};

class Search {
 public:
  Search(const SearchArgs& a, const Kernels& row, int threads, Pulse& pulse)
      : a_(a), kernels_(row.search), threads_(threads), pulse_(pulse), filter_(filter_pays(a)) {}

  void run() {
    plan();
    const auto idle = [this] { pulse_.ask(); };
    if (n_ranges_ > 1) return run_by_ranges(idle);
    parallel_for(
        n_groups_, threads_,
        [this](int64_t g) {
          const Group group = prepare(g);
          finish(group, *fold(group, 0, blocks_, nullptr));
        },
        idle);
  }

 private:
  // Lists of all ranges are kept until the end, so their number is what memory allows; there are as
  // many groups as it takes to keep every thread busy.
  void plan() {
    const int64_t n = a_.queries.rows, rows = a_.documents.rows;
    blocks_ = block_count(rows);
    if (static_cast<double>(rows) * n * a_.documents.dim < 2e6) threads_ = 1;
    const int64_t list_bytes =
        Candidates::capacity_for(a_.k, rows) * static_cast<int64_t>(sizeof(Candidate));
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
    const int64_t n = a_.queries.rows, dim = a_.queries.dim, padded = padded_dim(dim);
    Group group;
    group.first = n * g / n_groups_;
    group.n = static_cast<int>(n * (g + 1) / n_groups_ - group.first);
    group.queries.resize(static_cast<size_t>(group.n * dim));
    std::vector<float> wide(static_cast<size_t>(padded));
    if (filter_) {
      group.codes.resize(static_cast<size_t>(group.n * padded));
      group.bounds.resize(static_cast<size_t>(group.n));
    }
    for (int q = 0; q < group.n; ++q) {
      kernels_.widen(a_.queries, group.first + q, wide.data());
      std::copy_n(wide.data(), dim, group.queries.data() + q * dim);
      if (!filter_) continue;
      const int tile = q / kernels_.query_tile * kernels_.query_tile;
      const int in_tile = std::min(kernels_.query_tile, group.n - tile);
      group.bounds[static_cast<size_t>(q)] =
          kernels_.pack_query(wide.data(), padded, a_.packed.rotated, 4 * in_tile,
                              group.codes.data() + tile * padded + 4 * (q - tile));
    }
    return group;
  }

  Scorer scorer(const Group& group) const {
    return [this, &group](int q, const int64_t* rows, int64_t n, float* scores) {
      kernels_.score({group.queries.data() + q * a_.queries.dim, a_.documents, rows, 0, n, scores});
    };
  }

  int64_t id_of(int64_t row) const {
    return a_.document_ids ? a_.document_ids[row] : a_.first_id + row;
  }

  uint32_t mask(int64_t block) const {
    const int64_t left = a_.documents.rows - block * block_rows;
    const uint32_t inside = left >= block_rows ? ~0u : (1u << left) - 1;
    return a_.allowed ? a_.allowed[block] & inside : inside;
  }

  bool excluded(int64_t query, int64_t row) const {
    if (!a_.exclude_offsets) return false;
    return std::binary_search(a_.exclude_ids + a_.exclude_offsets[query],
                              a_.exclude_ids + a_.exclude_offsets[query + 1], id_of(row));
  }

  // Folds blocks [begin, end) into fresh candidate lists.
  std::unique_ptr<Candidates> fold(const Group& group, int64_t begin, int64_t end,
                                   std::atomic<float>* shared) const {
    const int64_t rows = std::min(end * block_rows, a_.documents.rows) - begin * block_rows;
    auto found = std::make_unique<Candidates>(group.n, a_.k, Candidates::capacity_for(a_.k, rows));
    for (int q = 0; q < group.n; ++q) {
      const int64_t query = group.first + q;
      const float least = a_.min_score ? a_.min_score[query] : -infinity;
      found->threshold(q) = std::max(least, a_.scores[query * a_.k + a_.k - 1]);
    }
    std::vector<uint8_t> scratch;
    if (filter_) scratch.resize(static_cast<size_t>(block_bytes(a_.documents.dim) + cache_line));
    std::vector<int32_t> before(static_cast<size_t>(group.n));
    const Scorer score = scorer(group);
    const IdOf ids = [this](int64_t row) { return id_of(row); };
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
      if (filter_)
        scan(group, block, documents, *found, scratch.data());
      else
        score_block(group, block, documents, *found);
      for (int q = 0; q < group.n; ++q) {
        if (found->count(q) == before[static_cast<size_t>(q)]) continue;
        if (a_.exclude_offsets || a_.max_score)
          drop_unwanted(group, q, before[static_cast<size_t>(q)], *found, score);
        if (found->full(q)) found->tighten(q, score, ids);
      }
    }
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

  void score_block(const Group& group, int64_t block, uint32_t documents, Candidates& found) const {
    const int64_t first = block * block_rows;
    const int64_t n = std::min<int64_t>(block_rows, a_.documents.rows - first);
    float scores[block_rows];
    for (int q = 0; q < group.n; ++q) {
      kernels_.score(
          {group.queries.data() + q * a_.queries.dim, a_.documents, nullptr, first, n, scores});
      for (int64_t i = 0; i < n; ++i) {
        if (!(documents >> i & 1)) continue;
        ++found.refined(q);
        if (scores[i] >= found.threshold(q)) found.append(q, {scores[i], scores[i], ~(first + i)});
      }
    }
  }

  // Takes out of the newest candidates of q what the query excludes by id or by its highest score.
  // What may lie above that score is scored at once: it must not raise the threshold.
  void drop_unwanted(const Group& group, int q, int32_t begin, Candidates& found,
                     const Scorer& score) const {
    const int64_t query = group.first + q;
    const float most = a_.max_score ? a_.max_score[query] : infinity;
    Candidate* list = found.list(q);
    int32_t kept = begin;
    for (int32_t i = begin; i < found.count(q); ++i) {
      Candidate c = list[i];
      if (c.lower > most || excluded(query, row_of(c))) continue;
      if (c.upper > most && !is_exact(c)) {
        float exact;
        score(q, &c.row, 1, &exact);
        ++found.refined(q);
        if (exact > most) continue;
        c = {exact, exact, ~c.row};
      }
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

  void run_by_ranges(const std::function<void()>& idle) const {
    std::vector<std::atomic<float>> shared(static_cast<size_t>(a_.queries.rows));
    for (auto& threshold : shared) threshold = -infinity;
    std::vector<Group> groups(static_cast<size_t>(n_groups_));
    parallel_for(n_groups_, threads_,
                 [&](int64_t g) { groups[static_cast<size_t>(g)] = prepare(g); });
    std::vector<std::unique_ptr<Candidates>> found(static_cast<size_t>(n_groups_ * n_ranges_));
    parallel_for(
        n_groups_ * n_ranges_, threads_,
        [&](int64_t task) {  // neighbours in time share a range, and its codes in the cache
          const int64_t r = task / n_groups_;
          const Group& group = groups[static_cast<size_t>(task % n_groups_)];
          found[static_cast<size_t>(task)] =
              fold(group, blocks_ * r / n_ranges_, blocks_ * (r + 1) / n_ranges_,
                   shared.data() + group.first);
        },
        idle);
    parallel_for(
        n_groups_, threads_,
        [&](int64_t g) {
          std::vector<Candidates*> parts;
          for (int64_t r = 0; r < n_ranges_; ++r)
            parts.push_back(found[static_cast<size_t>(r * n_groups_ + g)].get());
          finish(groups[static_cast<size_t>(g)], *joined(parts));
        },
        idle);
  }

  // Lists of consecutive ranges, one after the other.
  std::unique_ptr<Candidates> joined(const std::vector<Candidates*>& parts) const {
    const int n = parts[0]->n_queries();
    int64_t most = 0;
    for (int q = 0; q < n; ++q) {
      int64_t total = 0;
      for (Candidates* part : parts) total += part->count(q);
      most = std::max(most, total);
    }
    auto all = std::make_unique<Candidates>(n, a_.k, most);
    for (int q = 0; q < n; ++q)
      for (Candidates* part : parts) {
        for (int32_t i = 0; i < part->count(q); ++i) all->append(q, part->list(q)[i]);
        all->threshold(q) = std::max(all->threshold(q), part->threshold(q));
        all->pruned(q) = std::max(all->pruned(q), part->pruned(q));
        all->refined(q) += part->refined(q);
      }
    return all;
  }

  // The most promising k first: their scores are the threshold that the others must reach.
  void finish(const Group& group, Candidates& found) const {
    if (pulse_.stopped()) return;
    int64_t total = 0;
    for (int q = 0; q < group.n; ++q) total += found.count(q);
    const int64_t bytes = a_.documents.rows * a_.documents.dim * 4;
    if (total > 2 * a_.documents.rows && bytes > cached_bytes)
      return finish_by_document(group, found);
    const Scorer score = scorer(group);
    for (int q = 0; q < group.n; ++q) {
      found.drop_below(q, found.reached(q));
      const float lowest = found.refine(q, 0, found.count(q), found.promising(q), score);
      if (found.count(q) >= a_.k) found.drop_below(q, lowest);
      found.refine(q, 0, found.count(q), -infinity, score);
      merge(group, q, found);
    }
  }

  // The same for all queries together, where rows come from memory and each is needed repeatedly.
  void finish_by_document(const Group& group, Candidates& found) const {
    std::vector<float> from(static_cast<size_t>(group.n));
    for (int q = 0; q < group.n; ++q) {
      found.drop_below(q, found.reached(q));
      from[static_cast<size_t>(q)] = found.promising(q);
    }
    const std::vector<float> lowest = refine(group, found, from);
    for (int q = 0; q < group.n; ++q)
      if (found.count(q) >= a_.k) found.drop_below(q, lowest[static_cast<size_t>(q)]);
    refine(group, found, std::vector<float>(static_cast<size_t>(group.n), -infinity));
    for (int q = 0; q < group.n; ++q) merge(group, q, found);
  }

  // Scores candidates whose centre is at least from[q], in the order of documents, so that a row is
  // read once for all the queries that need it; returns the lowest score of each query.
  std::vector<float> refine(const Group& group, Candidates& found,
                            const std::vector<float>& from) const {
    const Scorer score = scorer(group);
    const int64_t together = std::max<int64_t>(1, refine_bytes / (4 * a_.documents.dim));
    std::vector<int32_t> next(static_cast<size_t>(group.n), 0);
    std::vector<float> lowest(static_cast<size_t>(group.n), infinity);
    for (int64_t end = together; end < a_.documents.rows + together; end += together)
      for (int q = 0; q < group.n; ++q) {
        int32_t& at = next[static_cast<size_t>(q)];
        const int32_t begin = at;
        while (at < found.count(q) && row_of(found.list(q)[at]) < end) ++at;
        if (at == begin) continue;
        float& low = lowest[static_cast<size_t>(q)];
        low = std::min(low, found.refine(q, begin, at, from[static_cast<size_t>(q)], score));
      }
    return lowest;
  }

  void merge(const Group& group, int q, Candidates& found) const {
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
      if (c.upper >= found.threshold(q)) answers.push_back({c.upper, id_of(row_of(c))});
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
  bool filter_;
  int64_t blocks_ = 0, n_groups_ = 1, n_ranges_ = 1;
};

}  // namespace

void search(const SearchArgs& a, const Kernels& row, int threads, Pulse& pulse) {
  if (a.queries.rows == 0 || a.documents.rows == 0) return;
  const DefaultFloatEnvironment environment;
  Search(a, row, threads, pulse).run();
}

}  // namespace tilefold
