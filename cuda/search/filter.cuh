// The filter: integer inner products of a tile of queries and a tile of documents on tensor cores,
// then bounds of their scores. A document whose upper bound is strictly below the query's threshold
// cannot be among the k best; others are appended to the query's list.
//
// Documents are read as they are packed: the four codes of a document that lie together are a word
// of a fragment. A warp has 64 queries and 64 documents, so that each byte from shared memory is used
// 64 times.
#pragma once
#include "cuda/platform/async_copy.h"
#include "cuda/platform/matrix_multiply.h"
#include "cuda/platform/reduce.h"
#include "cuda/search/arguments.h"
#include "cuda/search/filters.cuh"

namespace tilefold::cuda {

constexpr int filter_threads = 128;
constexpr int filter_stages = 3;  // steps in shared memory

// The tiles of one launch: every tile of documents comes once in a search, in an order that spreads
// the first ones over all documents.
struct TileOrder {
  int64_t tiles, stride;  // coprime
  int64_t first, n;       // places in the order

  __device__ int64_t tile(int64_t place) const {
    return static_cast<int64_t>(static_cast<uint64_t>(first + place) *
                                static_cast<uint64_t>(stride) % static_cast<uint64_t>(tiles));
  }
};

struct FilterShared {
  static constexpr int step_words = step_codes / 4;
  // Padding puts the words that a warp reads together in different banks.
  static constexpr int query_stride = step_words + 4, document_stride = block_rows + 8;
  SharedArray<uint32_t, filter_stages * tile_queries * query_stride> queries;
  SharedArray<uint32_t, filter_stages * tile_blocks * step_words * document_stride> documents;
  SharedArray<float, tile_blocks * block_bounds> document_bounds;
  SharedArray<QueryBound, tile_queries> query_bounds;
  SharedArray<float, tile_queries> thresholds;
  SharedArray<bool, tile_queries> searched;  // the query is at the stage of the launch
  ReduceShared<float> widest;
  ReduceShared<int> active;
};

// Upper bounds of half the distance of bounds, rounded alike for all: with larger arguments never
// smaller.
__device__ inline float half_width(const QueryBound& q, float norm, float radius, float along) {
  constexpr float absolute_slack = 1.17549435e-38f;  // for products that underflow
  return fmaf(q.norm_factor, norm,
              fmaf(q.radius_factor, radius, fmaf(q.along_factor, along, absolute_slack)));
}

class Filter {
 public:
  __device__ Filter(const SearchArgs& a, const Queries& queries, const CandidateLists& lists,
                    FilterShared& shared, int64_t query_tile, int64_t document_tile)
      : a_(a),
        queries_(queries),
        lists_(lists),
        shared_(shared),
        first_query_(query_tile * tile_queries),
        first_block_(document_tile * tile_blocks),
        dim_words_(padded_dim(a.documents.dim) / 4),
        thread_(static_cast<int>(threadIdx.x)),
        lane_(thread_ % warp_size),
        warp_(thread_ / warp_size) {}

  // Whether a query of the tile is at the stage.
  __device__ bool any_active(Stage stage) {
    const int64_t q = first_query_ + thread_;
    const bool mine = q < queries_.n && queries_.stages[q] == stage;
    shared_.searched[thread_] = mine;
    shared_.thresholds[thread_] = mine ? queries_.thresholds[q] : INFINITY;
    shared_.query_bounds[thread_] = q < queries_.n ? queries_.bounds[q] : QueryBound{};
    return max_block(shared_.active, static_cast<int>(mine));
  }

  __device__ void multiply() {
    load_bounds();
    const int64_t steps = queries_.row_codes / step_codes;
    for (int64_t s = 0; s < filter_stages - 1; ++s) load(s, steps);
    for (int64_t s = 0; s < steps; ++s) {
      wait_for_copies<filter_stages - 2>();
      __syncthreads();  // the copies of all threads are there, and the oldest step has been used
      load(s + filter_stages - 1, steps);
      TILEFOLD_UNROLL
      for (int half = 0; half < 2; ++half) multiply_half(static_cast<int>(s % filter_stages), half);
    }
  }

  // Appends what may reach the thresholds.
  template <bool prunes>
  __device__ void fold() {
    const float norm = widest(1), radius = widest(2), along = widest(3);
    TILEFOLD_UNROLL
    for (int m = 0; m < 4; ++m) TILEFOLD_UNROLL
    for (int lower_half = 0; lower_half < 2; ++lower_half)
      fold_row<prunes>(m, lower_half, norm, radius, along);
  }

 private:
  static constexpr int step_words = FilterShared::step_words;

  __device__ int64_t first_row() const { return first_block_ * block_rows; }

  __device__ void load_bounds() {
    const int64_t blocks = block_count(a_.documents.rows);
    for (int i = thread_; i < tile_blocks * block_bounds; i += filter_threads) {
      const bool given = first_block_ + i / block_bounds < blocks;
      shared_.document_bounds[i] = given ? a_.packed.bounds[first_block_ * block_bounds + i] : 0.0f;
    }
  }

  // Begins to copy a step of the codes; a step beyond the last is an empty group.
  __device__ void load(int64_t step, int64_t steps) {
    if (step < steps) {
      const int stage = static_cast<int>(step % filter_stages);
      load_queries(step, stage);
      load_documents(step, stage);
    }
    commit_copies();
  }

  __device__ void load_queries(int64_t step, int stage) {
    constexpr int pieces = step_codes / async_copy_bytes;
    for (int i = thread_; i < tile_queries * pieces; i += filter_threads) {
      const int row = i / pieces, piece = i % pieces;
      const int8_t* const from = queries_.codes + (first_query_ + row) * queries_.row_codes +
                                 step * step_codes + piece * async_copy_bytes;
      const int word = (stage * tile_queries + row) * FilterShared::query_stride + 4 * piece;
      copy_async(&shared_.queries[word], from, true);
    }
  }

  __device__ void load_documents(int64_t step, int stage) {
    constexpr int pieces = block_rows * 4 / async_copy_bytes;
    const int64_t blocks = block_count(a_.documents.rows);
    for (int i = thread_; i < tile_blocks * step_words * pieces; i += filter_threads) {
      const int piece = i % pieces, word_row = i / pieces % step_words,
                block = i / pieces / step_words;
      const int64_t word = step * step_words + word_row;
      const bool given = first_block_ + block < blocks && word < dim_words_;
      const uint8_t* const from =
          a_.packed.codes +
          (((first_block_ + block) * dim_words_ + word) * block_rows + 4 * piece) * 4;
      const int to =
          ((stage * tile_blocks + block) * step_words + word_row) * FilterShared::document_stride +
          4 * piece;
      copy_async(&shared_.documents[to], from, given);
    }
  }

  // 32 codes: 64 queries and 64 documents of this warp.
  __device__ void multiply_half(int stage, int half) {
    const int g = lane_ / 4, t = lane_ % 4, word = 8 * half + t;
    FragmentB b[8];
    TILEFOLD_UNROLL
    for (int n = 0; n < 8; ++n) {
      const int block = 2 * (warp_ % 2) + n / 4;
      const int at =
          ((stage * tile_blocks + block) * step_words + word) * FilterShared::document_stride +
          8 * (n % 4) + g;
      b[n].word[0] = shared_.documents[at];
      b[n].word[1] = shared_.documents[at + 4 * FilterShared::document_stride];
    }
    TILEFOLD_UNROLL
    for (int m = 0; m < 4; ++m) {
      const int row = 64 * (warp_ / 2) + 16 * m + g;
      const int at = (stage * tile_queries + row) * FilterShared::query_stride + word;
      FragmentA fragment;
      fragment.word[0] = shared_.queries[at];
      fragment.word[1] = shared_.queries[at + 8 * FilterShared::query_stride];
      fragment.word[2] = shared_.queries[at + 4];
      fragment.word[3] = shared_.queries[at + 8 * FilterShared::query_stride + 4];
      TILEFOLD_UNROLL
      for (int n = 0; n < 8; ++n) multiply_s8_u8(c_[m][n], fragment, b[n]);
    }
  }

  // The largest magnitude of a kind of bounds among the tile's documents.
  __device__ float widest(int kind) {
    const int block = thread_ / block_rows, i = thread_ % block_rows;
    return max_block(shared_.widest, fabsf(bound_of(block, i, kind)));
  }

  __device__ float bound_of(int block, int i, int kind) {
    return shared_.document_bounds[block * block_bounds + kind * block_rows + i];
  }

  template <bool prunes>
  __device__ void fold_row(int m, int lower_half, float norm, float radius, float along) {
    const int row = 64 * (warp_ / 2) + 16 * m + 8 * lower_half + lane_ / 4;
    const QueryBound query = shared_.query_bounds[row];
    const float threshold = shared_.thresholds[row];
    const float most = half_width(query, norm, radius, along);
    float dropped = -INFINITY;
    TILEFOLD_UNROLL
    for (int n = 0; n < 8; ++n) TILEFOLD_UNROLL
    for (int column = 0; column < 2; ++column) {
      const int block = 2 * (warp_ % 2) + n / 4, i = 8 * (n % 4) + 2 * (lane_ % 4) + column;
      const int32_t product = c_[m][n].sum[2 * lower_half + column] - 128 * query.code_sum;
      const float centre = fmaf(query.along, bound_of(block, i, 3),
                                static_cast<float>(product) * bound_of(block, i, 0) * query.scale);
      // Most need no closer look. NaN is no reason to drop a document.
      if (!prunes && centre + most < threshold) continue;
      const float upper = consider(row, threshold, query, centre, block, i);
      dropped = upper > dropped ? upper : dropped;
    }
    if (prunes) record_dropped(row, dropped);
  }

  // Appends a document, or returns the upper bound of one that is dropped.
  __device__ float consider(int row, float threshold, const QueryBound& query, float centre,
                            int block, int i) {
    const int64_t document = first_row() + block * block_rows + i;
    if (!shared_.searched[row] || !allowed(a_, document)) return -INFINITY;
    const float width = half_width(query, bound_of(block, i, 1), bound_of(block, i, 2),
                                   fabsf(bound_of(block, i, 3)));
    const float lower = centre - width, upper = centre + width;
    if (upper < threshold) return upper;
    const int64_t q = first_query_ + row, number = queries_.first + q;
    if (lower > max_score(a_, number) || excluded(a_, number, document)) return -INFINITY;
    const int32_t at = atomicAdd(&lists_.counts[q], 1);
    if (at >= lists_.capacity) return -INFINITY;
    const int64_t place = q * lists_.capacity + at;
    lists_.rows[place] = static_cast<int32_t>(document);
    lists_.lower[place] = lower;
    lists_.upper[place] = upper;
    return -INFINITY;
  }

  __device__ void record_dropped(int row, float dropped) {
    dropped = reduce_lanes<4, Max>(dropped);
    if (lane_ % 4 == 0 && dropped > -INFINITY)
      raise_to(&queries_.pruned[first_query_ + row], dropped);
  }

  const SearchArgs& a_;
  const Queries& queries_;
  const CandidateLists& lists_;
  FilterShared& shared_;
  const int64_t first_query_, first_block_, dim_words_;
  const int thread_, lane_, warp_;
  FragmentC c_[4][8] = {};
};

template <bool prunes>
__global__ void __launch_bounds__(filter_threads)
    filter(const __grid_constant__ SearchArgs a, const __grid_constant__ Queries queries,
           const __grid_constant__ CandidateLists lists, const TileOrder order,
           const int64_t query_tiles, const Stage stage) {
  Filter filter(a, queries, lists, shared_memory<FilterShared>(), blockIdx.x % query_tiles,
                order.tile(blockIdx.x / query_tiles));
  if (!filter.any_active(stage)) return;
  filter.multiply();
  filter.template fold<prunes>();
}

}  // namespace tilefold::cuda
