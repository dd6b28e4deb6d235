// Canonical scores of documents: of the candidates, or of all documents where a query has no other
// way. They take the place of the candidates' lower bounds.
#pragma once
#include "cuda/search/arguments.h"
#include "cuda/search/canonical.cuh"
#include "cuda/search/filters.cuh"
#include "cuda/search/select.cuh"
#include "cuda/search/tighten.cuh"

namespace tilefold::cuda {

template <class T>
__global__ void __launch_bounds__(list_threads)
    score_candidates(const __grid_constant__ SearchArgs a, const __grid_constant__ Queries queries,
                     const __grid_constant__ CandidateLists lists, const Stage stage) {
  const int64_t q = blockIdx.x;
  if (queries.stages[q] != stage) return;
  const int64_t first = q * lists.capacity, count = lists.counts[q];
  const float* const query = queries.wide + q * a.queries.dim;
  constexpr int together = list_threads / score_lanes;
  const int64_t mine = threadIdx.x / score_lanes;
  for (int64_t i = 0; i < count; i += together) {  // alike for all threads of a warp
    const int64_t at = first + (i + mine < count ? i + mine : i);
    const float score =
        canonical_score(query, row_of<T>(a.documents, lists.rows[at]), a.documents.dim);
    if (threadIdx.x % score_lanes != 0 || i + mine >= count) continue;
    if (!(lists.lower[at] <= score && score <= lists.upper[at]))
      atomicMax(&queries.faults[q], bounds_wrong);
    lists.lower[at] = ordered(score);
  }
  if (threadIdx.x == 0) queries.refined[q] = count;
}

struct ScoreAllShared {
  SelectShared select;
  CompactShared compact;
  int32_t count, equal;
};

struct Scored {
  int32_t row;
  float score;
};

// Keeps the k best of `n` scored documents, more than k, and returns the score of the last of them.
__device__ inline float keep_best(const SearchArgs& a, ScoreAllShared& shared, int64_t n,
                                  int32_t* rows, float* scores) {
  const auto id_key = [&](int64_t i) { return descending_key(document_id(a, rows[i])); };
  const Boundary boundary = find_boundary(
      shared.select, n, a.k, [](int64_t) { return true; },
      [&](int64_t i) { return ascending_key(scores[i]); }, id_key);
  if (threadIdx.x == 0) shared.equal = 0;
  __syncthreads();
  const auto load = [&](int64_t i) { return Scored{rows[i], scores[i]}; };
  const auto keep = [&](const Scored& s) {
    const auto side = boundary.side(ascending_key(s.score), descending_key(document_id(a, s.row)));
    if (side == Boundary::Side::at) return atomicAdd(&shared.equal, 1) < boundary.equal;
    return side == Boundary::Side::within;
  };
  const auto store = [&](int64_t i, const Scored& s) {
    rows[i] = s.row;
    scores[i] = s.score;
  };
  compact(shared.compact, n, load, keep, store);
  return score_of(boundary.score_key);
}

// Scores every document for the queries that need it, and keeps the k best.
template <class T>
__global__ void __launch_bounds__(list_threads)
    score_all(const __grid_constant__ SearchArgs a, const __grid_constant__ Queries queries,
              const __grid_constant__ CandidateLists lists) {
  const int64_t q = blockIdx.x;
  if (queries.stages[q] != Stage::exact) return;
  ScoreAllShared& shared = shared_memory<ScoreAllShared>();
  const int64_t number = queries.first + q, rows = a.documents.rows;
  const float* const query = queries.wide + q * a.queries.dim;
  int32_t* const list_rows = lists.rows + q * lists.capacity;
  float* const scores = lists.lower + q * lists.capacity;
  constexpr int together = list_threads / score_lanes;
  const int64_t mine = threadIdx.x / score_lanes, step = lists.capacity - a.k;
  const float most = max_score(a, number);
  float threshold = queries.initial[q];
  int64_t kept = 0, scored = 0;
  if (threadIdx.x == 0) {
    shared.count = 0;
    queries.refined[q] = 0;
  }
  __syncthreads();
  for (int64_t first = 0; first < rows; first += step) {
    const int64_t end = first + step < rows ? first + step : rows;
    for (int64_t i = first; i < end; i += together) {
      const int64_t row = i + mine < end ? i + mine : i;
      const float score =
          ordered(canonical_score(query, row_of<T>(a.documents, row), a.documents.dim));
      if (threadIdx.x % score_lanes != 0 || i + mine >= end || !allowed(a, row)) continue;
      ++scored;
      if (!(score >= threshold && score <= most) || excluded(a, number, row)) continue;
      const int32_t at = atomicAdd(&shared.count, 1);
      list_rows[at] = static_cast<int32_t>(row);
      scores[at] = score;
    }
    __syncthreads();
    kept = shared.count;
    if (kept > a.k) {
      threshold = fmaxf(threshold, keep_best(a, shared, kept, list_rows, scores));
      kept = a.k;
    }
    __syncthreads();
    if (threadIdx.x == 0) shared.count = static_cast<int32_t>(kept);
    __syncthreads();
  }
  if (threadIdx.x == 0) lists.counts[q] = static_cast<int32_t>(kept);
  if (scored) add_wrapping(queries.refined + q, scored);
}

}  // namespace tilefold::cuda
