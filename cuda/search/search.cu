// Exact search, as a fixed sequence of launches that needs no answer of the device: queries that an
// earlier stage answered leave the later ones at once.
//
//     pack_queries
//     likely stage: for ever larger parts of the documents: filter, tighten; then score, answer
//     certain stage, the same for queries that lost the wager on their thresholds
//     exact stage, for queries whose candidates did not fit
#include "cuda/search/search.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <numeric>

#include "check.h"
#include "cuda/platform/launch.h"
#include "cuda/search/answer.cuh"
#include "cuda/search/filter.cuh"
#include "cuda/search/pack_queries.cuh"
#include "cuda/search/score.cuh"
#include "cuda/search/tighten.cuh"

namespace tilefold::cuda {
namespace {

// Candidate lists of a batch of queries.
constexpr int64_t list_bytes = int64_t{256} << 20;
constexpr int64_t max_rows = int64_t{1} << 30;  // rows are 32-bit numbers in the lists
// With fewer documents per answer, bounds cost more than they save.
constexpr int64_t min_rows_per_answer = 4;

int64_t list_capacity(int64_t k) { return std::max<int64_t>(4096, 8 * k); }

// Whether the filter uses the products of groups of warps, which no GPU has run yet: where the
// variable TILEFOLD_CUDA_GROUPS is 1.
bool multiplies_by_groups(const Stream& stream) {
  const char* variable = std::getenv("TILEFOLD_CUDA_GROUPS");
  if (!variable || std::strcmp(variable, "1") != 0) return false;
  const int capability = compute_capability(stream);
  check(capability == 90,
        "search: TILEFOLD_CUDA_GROUPS=1 needs a GPU of compute capability 9.0, got ",
        capability / 10, ".", capability % 10);
  return true;
}

// Documents first, first + 1, ... as a search of their own; `first` is a multiple of 32.
SearchArgs part_of(const SearchArgs& a, int64_t first, int64_t rows) {
  SearchArgs part = a;
  const int64_t bytes = first * a.documents.row_stride * item_bytes(a.documents.dtype);
  part.documents.data = static_cast<const char*>(a.documents.data) + bytes;
  part.documents.rows = rows;
  const int64_t block = first / block_rows;
  if (a.packed.codes) {
    part.packed.codes += block * block_bytes(a.documents.dim);
    part.packed.bounds += block * block_bounds;
  }
  if (a.allowed) part.allowed += block;
  if (a.document_ids)
    part.document_ids += first;
  else
    part.first_id += first;
  return part;
}

class Search {
 public:
  Search(const SearchArgs& a, const Stream& stream, Pulse& pulse)
      : a_(a),
        stream_(stream),
        pulse_(pulse),
        filters_(a.packed.codes && a.documents.dim <= max_packed_dim &&
                 a.documents.rows >= min_rows_per_answer * a.k),
        capacity_(list_capacity(a.k)),
        batch_(std::clamp<int64_t>(list_bytes / (capacity_ * list_item_bytes), 1, a.queries.rows)),
        padded_(padded_dim(a.queries.dim)),
        row_codes_(blocks_for(padded_, step_codes) * step_codes),
        wide_(stream, batch_ * a.queries.dim),
        rest_(stream, batch_ * padded_),
        codes_(stream, blocks_for(batch_, tile_queries) * tile_queries * row_codes_),
        bounds_(stream, batch_),
        floats_(stream, 3 * batch_),
        stages_(stream, batch_),
        integers_(stream, 2 * batch_),
        refined_(stream, batch_),
        signs_(stream, padded_ / 32 + 1),
        rows_(stream, batch_ * capacity_),
        lower_(stream, batch_ * capacity_),
        upper_(stream, batch_ * capacity_) {
    tiles_ = blocks_for(a.documents.rows, tile_documents);
    order_stride_ = std::max<int64_t>(1, static_cast<int64_t>(0.618 * static_cast<double>(tiles_)));
    while (std::gcd(order_stride_, tiles_) != 1) ++order_stride_;
  }

  void run() {
    if (a_.packed.rotated)
      launch("write_rotation_signs", write_rotation_signs, {1, 1, 1}, stream_, padded_,
             signs_.data());
    for (int64_t first = 0; first < a_.queries.rows; first += batch_)
      if (!run_batch(first, std::min(batch_, a_.queries.rows - first))) return;
  }

 private:
  static constexpr int64_t list_item_bytes = sizeof(int32_t) + 2 * sizeof(float);

  // Returns false if the search is cancelled.
  bool run_batch(int64_t first, int64_t n) {
    const Queries queries = {first,
                             n,
                             row_codes_,
                             wide_.data(),
                             rest_.data(),
                             codes_.data(),
                             bounds_.data(),
                             floats_.data(),
                             floats_.data() + batch_,
                             floats_.data() + 2 * batch_,
                             stages_.data(),
                             integers_.data(),
                             refined_.data()};
    const CandidateLists lists = {integers_.data() + batch_, rows_.data(), lower_.data(),
                                  upper_.data(), capacity_};
    for_dtype(a_.queries.dtype, [&](auto type) {
      launch("pack_queries", pack_queries<decltype(type)>,
             {blocks_for(n, pack_warps), 1, pack_threads}, stream_, a_, queries, signs_.data());
    });
    launch("begin_search", begin_search, {blocks_for(n, list_threads), 1, list_threads}, stream_,
           a_, queries, lists, filters_ ? Stage::likely : Stage::exact);
    if (filters_)
      for (const Stage stage : {Stage::likely, Stage::certain}) {
        if (!filter_documents(queries, lists, stage)) return false;
        for_dtype(a_.documents.dtype, [&](auto type) {
          launch("score_candidates", score_candidates<decltype(type)>, {n, 1, list_threads},
                 stream_, a_, queries, lists, stage);
        });
        write_answers(queries, lists, stage);
      }
    for_dtype(a_.documents.dtype, [&](auto type) {
      launch("score_all", score_all<decltype(type)>, {n, 1, list_threads, sizeof(ScoreAllShared)},
             stream_, a_, queries, lists);
    });
    write_answers(queries, lists, Stage::exact);
    return !pulse_.stopped();
  }

  // In parts, each several times as large as all before, after which thresholds rise.
  bool filter_documents(const Queries& queries, const CandidateLists& lists, Stage stage) {
    constexpr int64_t growth = 4;
    const bool likely = stage == Stage::likely;
    for (int64_t done = 0, next = std::max<int64_t>(1, capacity_ / 2 / tile_documents);
         done < tiles_; next = growth * done) {
      const int64_t part = std::min(next, tiles_ - done);
      if (likely && !pulse_.beat(static_cast<double>(part * queries.n) /
                                 static_cast<double>(tiles_ * a_.queries.rows)))
        return false;
      filter_part(queries, lists, {tiles_, order_stride_, done, part}, stage);
      done += part;
      launch("tighten", tighten, {queries.n, 1, list_threads, sizeof(TightenShared)}, stream_, a_,
             queries, lists, likely ? likely_rank(done) : a_.k, likely ? optimism() : 0.0f, stage);
    }
    return true;
  }

  void filter_part(const Queries& queries, const CandidateLists& lists, const TileOrder& order,
                   Stage stage) {
    const int64_t query_tiles = blocks_for(queries.n, tile_queries);
    Grid grid = {query_tiles * order.n, 1, filter_threads, sizeof(WarpShared)};
    auto* kernel = a_.pruned_bound ? filter<true> : filter<false>;
    if (by_groups_) {
      grid.shared_bytes = sizeof(GroupShared);
      kernel = a_.pruned_bound ? filter_by_groups<true> : filter_by_groups<false>;
    }
    launch("filter", kernel, grid, stream_, a_, queries, lists, order, query_tiles, stage);
  }

  // Of the k best documents a share is expected among the tiles seen so far, give or take its square
  // root.
  int64_t likely_rank(int64_t tiles_seen) const {
    if (tiles_seen == tiles_) return a_.k;
    const double expected =
        static_cast<double>(a_.k) * static_cast<double>(tiles_seen) / static_cast<double>(tiles_);
    return static_cast<int64_t>(std::ceil(expected + 4 * std::sqrt(expected))) + 2;
  }

  // Six standard deviations below the middle of the bounds, as errors in random directions have a
  // standard deviation of half-width / sqrt(2 dim).
  float optimism() const {
    const double errors = 6 / std::sqrt(2.0 * static_cast<double>(a_.documents.dim));
    return static_cast<float>(0.5 * std::max(0.0, 1 - errors));
  }

  void write_answers(const Queries& queries, const CandidateLists& lists, Stage stage) {
    int64_t places = 1;
    while (places < a_.k) places *= 2;
    const int64_t shared = sizeof(AnswerShared) + places * static_cast<int64_t>(sizeof(Answer));
    launch("answer", answer, {queries.n, 1, list_threads, shared}, stream_, a_, queries, lists,
           places, stage);
  }

  const SearchArgs& a_;
  const Stream stream_;
  Pulse& pulse_;
  const bool filters_;
  const bool by_groups_ = multiplies_by_groups(stream_);
  const int64_t capacity_, batch_, padded_, row_codes_;
  int64_t tiles_, order_stride_;
  DeviceBuffer<float> wide_, rest_;
  DeviceBuffer<int8_t> codes_;
  DeviceBuffer<QueryBound> bounds_;
  DeviceBuffer<float> floats_;
  DeviceBuffer<Stage> stages_;
  DeviceBuffer<int32_t> integers_;
  DeviceBuffer<int64_t> refined_;
  DeviceBuffer<uint32_t> signs_;
  DeviceBuffer<int32_t> rows_;
  DeviceBuffer<float> lower_, upper_;
};

}  // namespace

void search(const SearchArgs& a, int, Pulse& pulse) {
  check(a.k <= max_k, "search: k must be at most ", max_k, " on cuda, got ", a.k,
        "; search on the CPU, or in shards with a smaller k");
  check(!a.packed.codes || reinterpret_cast<uintptr_t>(a.packed.codes) % async_copy_bytes == 0,
        "search: codes must be aligned to ", async_copy_bytes, " bytes on cuda; pass a copy");
  if (a.queries.rows == 0) return;
  const Stream stream("search", a.device);
  const DeviceGuard guard(stream);
  for (int64_t first = 0; first < a.documents.rows; first += max_rows) {
    const SearchArgs part = part_of(a, first, std::min(max_rows, a.documents.rows - first));
    Search(part, stream, pulse).run();
    if (pulse.stopped()) return;
  }
}

}  // namespace tilefold::cuda
