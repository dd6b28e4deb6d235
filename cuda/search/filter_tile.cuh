// A tile of the filter: from integer products of 128 queries and 128 documents to bounds of their
// scores. A document whose upper bound is strictly below the query's threshold cannot be among the k
// best; others are appended to the query's list.
#pragma once
#include "cuda/platform/reduce.h"
#include "cuda/search/arguments.h"
#include "cuda/search/filters.cuh"

namespace tilefold::cuda {

constexpr int filter_threads = 128;

struct TileShared {
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

class FilterTile {
 public:
  __device__ FilterTile(const SearchArgs& a, const Queries& queries, const CandidateLists& lists,
                        TileShared& shared, int64_t query_tile, int64_t document_tile)
      : a_(a),
        queries_(queries),
        lists_(lists),
        shared_(shared),
        first_query_(query_tile * tile_queries),
        first_block_(document_tile * tile_blocks),
        thread_(static_cast<int>(threadIdx.x)) {}

  // Whether a query of the tile is at the stage.
  __device__ bool any_active(Stage stage) {
    const int64_t q = first_query_ + thread_;
    const bool mine = q < queries_.n && queries_.stages[q] == stage;
    shared_.searched[thread_] = mine;
    shared_.thresholds[thread_] = mine ? queries_.thresholds[q] : INFINITY;
    shared_.query_bounds[thread_] = q < queries_.n ? queries_.bounds[q] : QueryBound{};
    return max_block(shared_.active, static_cast<int>(mine));
  }

  __device__ void load_bounds() {
    const int64_t blocks = block_count(a_.documents.rows);
    for (int i = thread_; i < tile_blocks * block_bounds; i += filter_threads) {
      const bool given = first_block_ + i / block_bounds < blocks;
      shared_.document_bounds[i] = given ? a_.packed.bounds[first_block_ * block_bounds + i] : 0.0f;
    }
  }

  // Appends what may reach the thresholds. A thread has `rows` by `columns` products, of which (i, j)
  // is that of query row(i) and document column(j) of the tile; four neighbouring lanes have the
  // same rows. The bounds were loaded before a barrier.
  template <bool prunes, class Product>
  __device__ void fold(const Product& product) {
    const Widest widest = {widest_of(1), widest_of(2), widest_of(3)};
    TILEFOLD_UNROLL
    for (int i = 0; i < Product::rows; ++i) fold_row<prunes>(product, i, widest);
  }

 private:
  struct Widest {
    float norm, radius, along;
  };

  // The largest magnitude of a kind of bounds among the tile's documents.
  __device__ float widest_of(int kind) {
    return max_block(shared_.widest, fabsf(bound_of(thread_, kind)));
  }

  __device__ float bound_of(int column, int kind) {
    return shared_.document_bounds[column / block_rows * block_bounds + kind * block_rows +
                                   column % block_rows];
  }

  template <bool prunes, class Product>
  __device__ void fold_row(const Product& product, int i, const Widest& widest) {
    const int row = product.row(i);
    const QueryBound query = shared_.query_bounds[row];
    const float threshold = shared_.thresholds[row];
    const float most = half_width(query, widest.norm, widest.radius, widest.along);
    float dropped = -INFINITY;
    TILEFOLD_UNROLL
    for (int j = 0; j < Product::columns; ++j) {
      const int column = product.column(j);
      const int32_t integer = product.at(i, j) - 128 * query.code_sum;
      const float centre = fmaf(query.along, bound_of(column, 3),
                                static_cast<float>(integer) * bound_of(column, 0) * query.scale);
      // Most need no closer look. NaN is no reason to drop a document.
      if (!prunes && centre + most < threshold) continue;
      const float upper = consider(row, threshold, query, centre, column);
      dropped = upper > dropped ? upper : dropped;
    }
    if (prunes) record_dropped(row, dropped);
  }

  // Appends a document, or returns the upper bound of one that is dropped.
  __device__ float consider(int row, float threshold, const QueryBound& query, float centre,
                            int column) {
    const int64_t document = first_block_ * block_rows + column;
    if (!shared_.searched[row] || !allowed(a_, document)) return -INFINITY;
    const float width =
        half_width(query, bound_of(column, 1), bound_of(column, 2), fabsf(bound_of(column, 3)));
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
    if (thread_ % 4 == 0 && dropped > -INFINITY)
      raise_to(&queries_.pruned[first_query_ + row], dropped);
  }

  const SearchArgs& a_;
  const Queries& queries_;
  const CandidateLists& lists_;
  TileShared& shared_;
  const int64_t first_query_, first_block_;
  const int thread_;
};

}  // namespace tilefold::cuda
