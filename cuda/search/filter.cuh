// The filter: a block of threads takes a tile of queries and a tile of documents, multiplies their
// codes on tensor cores, and appends documents that may reach the thresholds to the queries' lists.
#pragma once
#include "cuda/search/group_product.cuh"
#include "cuda/search/warp_product.cuh"

namespace tilefold::cuda {

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

template <class Product, bool prunes>
__device__ void filter_tile(const SearchArgs& a, const Queries& queries,
                            const CandidateLists& lists, const TileOrder& order,
                            int64_t query_tiles, Stage stage) {
  auto& shared = shared_memory<typename Product::Shared>();
  const int64_t query_tile = blockIdx.x % query_tiles;
  const int64_t document_tile = order.tile(blockIdx.x / query_tiles);
  FilterTile tile(a, queries, lists, shared.tile, query_tile, document_tile);
  if (!tile.any_active(stage)) return;
  tile.load_bounds();
  Product product(a, queries, shared, query_tile, document_tile);
  product.multiply();
  tile.template fold<prunes>(product);
}

template <bool prunes>
__global__ void __launch_bounds__(filter_threads)
    filter(const __grid_constant__ SearchArgs a, const __grid_constant__ Queries queries,
           const __grid_constant__ CandidateLists lists, const __grid_constant__ TileOrder order,
           const int64_t query_tiles, const Stage stage) {
  filter_tile<WarpProduct, prunes>(a, queries, lists, order, query_tiles, stage);
}

// Empty for GPUs of other compute capabilities, where it is never launched.
template <bool prunes>
__global__ void __launch_bounds__(filter_threads)
    filter_by_groups(const __grid_constant__ SearchArgs a, const __grid_constant__ Queries queries,
                     const __grid_constant__ CandidateLists lists,
                     const __grid_constant__ TileOrder order, const int64_t query_tiles,
                     const Stage stage) {
#ifdef TILEFOLD_GROUP_PRODUCTS
  filter_tile<GroupProduct, prunes>(a, queries, lists, order, query_tiles, stage);
#endif
}

}  // namespace tilefold::cuda
