// Prepares queries for the filter, a warp for each: fp32 values, int8 codes and the
// factors of the bounds, as pack_query() of cpu/lanes/quantise.h.
#pragma once
#include "cuda/search/canonical.cuh"
#include "cuda/search/quantise.cuh"

namespace tilefold::cuda {

template <class T>
static __global__ void __launch_bounds__(pack_threads, 4)
    pack_queries(const __grid_constant__ SearchArgs a, const __grid_constant__ Queries queries,
                 const uint32_t* signs) {
  const int64_t q = blockIdx.x * static_cast<int64_t>(pack_warps) + threadIdx.x / warp_size;
  if (q >= queries.n) return;
  const int64_t lane = threadIdx.x % warp_size, dim = a.queries.dim;
  const T* const from = row_of<T>(a.queries, queries.first + q);
  for (int64_t j = lane; j < dim; j += warp_size) queries.wide[q * dim + j] = widened(from[j]);
  uint32_t* const codes = reinterpret_cast<uint32_t*>(queries.codes + q * queries.row_codes);
  const QuantiseArgs args = {dim, queries.row_codes, a.packed.direction,
                             a.packed.rotated ? signs : nullptr, false};
  const Quantised x = quantise(args, from, queries.rest + q * padded_dim(dim),
                               [&](int64_t w, uint32_t word) { codes[w] = word; });
  if (lane != 0) return;
  const double whole = x.split ? 0x1p-20 * x.norm : 0;
  const double norm_factor = x.radius + 0x1p-17 * (x.rest_norm + x.approximation) + whole;
  const double radius_factor = x.approximation > 0x1p-100 ? x.approximation : 0x1p-100;
  const double along = fabs(static_cast<double>(x.along));
  const double along_factor = x.split ? whole + x.along_error + along * x.defect + 0x1p-126 : 0;
  constexpr double up = 1 + 0x1p-18;
  queries.bounds[q] = {x.scale,
                       x.along,
                       static_cast<float>(norm_factor * up),
                       static_cast<float>(radius_factor * up),
                       static_cast<float>(along_factor * up),
                       x.code_sum};
}

// Thresholds before any document is seen, and empty lists.
static __global__ void begin_search(const __grid_constant__ SearchArgs a,
                                    const __grid_constant__ Queries queries,
                                    const __grid_constant__ CandidateLists lists,
                                    const Stage stage) {
  const int64_t q = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x;
  if (q >= queries.n) return;
  const int64_t query = queries.first + q;
  const float reached = ordered(a.scores[query * a.k + a.k - 1]);
  const float least = a.min_score ? a.min_score[query] : -INFINITY;
  queries.initial[q] = queries.thresholds[q] = least > reached ? least : reached;
  queries.pruned[q] = -INFINITY;
  queries.stages[q] = stage;
  queries.faults[q] = 0;
  lists.counts[q] = 0;
}

}  // namespace tilefold::cuda
