// Raises the threshold of each query to what a number of its candidates reach, and drops candidates
// that cannot reach it.
#pragma once
#include "cuda/platform/reduce.h"
#include "cuda/search/arguments.h"
#include "cuda/search/filters.cuh"
#include "cuda/search/select.cuh"

namespace tilefold::cuda {

constexpr int list_threads = 128;

struct TightenShared {
  SelectShared select;
  CompactShared compact;
  ReduceShared<float> pruned;
};

struct Candidate {
  int32_t row;
  float lower, upper;
};

// A candidate's score is assumed at the position `optimism` between its bounds; 0 is certain.
static __global__ void __launch_bounds__(list_threads)
    tighten(const __grid_constant__ SearchArgs a, const __grid_constant__ Queries queries,
            const __grid_constant__ CandidateLists lists, const int64_t rank, const float optimism,
            const Stage stage) {
  const int64_t q = blockIdx.x;
  if (queries.stages[q] != stage) return;
  TightenShared& shared = shared_memory<TightenShared>();
  int32_t* const rows = lists.rows + q * lists.capacity;
  float* const lower = lists.lower + q * lists.capacity;
  float* const upper = lists.upper + q * lists.capacity;
  const int64_t found = lists.counts[q];
  const int64_t count = found < lists.capacity ? found : lists.capacity;
  const float most = max_score(a, queries.first + q);

  // One that the largest score may exclude does not count. Without finite bounds the lower one does.
  const auto counts = [&](int64_t i) { return !(upper[i] > most); };
  const auto key = [&](int64_t i) {
    const float width = upper[i] - lower[i];
    return ascending_key(width < INFINITY ? fmaf(optimism, width, lower[i]) : lower[i]);
  };
  const uint32_t bound =
      count < rank ? 0 : kth_largest<uint32_t>(shared.select, count, rank, counts, key).key;
  const float reached = bound ? score_of(bound) : -INFINITY;
  const float before = queries.thresholds[q];
  const float threshold = reached > before ? reached : before;

  float dropped = -INFINITY;
  const auto load = [&](int64_t i) { return Candidate{rows[i], lower[i], upper[i]}; };
  const auto keep = [&](const Candidate& c) {
    if (!(c.upper < threshold)) return true;
    dropped = fmaxf(dropped, c.upper);
    return false;
  };
  const auto store = [&](int64_t i, const Candidate& c) {
    rows[i] = c.row;
    lower[i] = c.lower;
    upper[i] = c.upper;
  };
  const int64_t kept = compact(shared.compact, count, load, keep, store);
  dropped = max_block(shared.pruned, dropped);
  if (threadIdx.x != 0) return;
  queries.thresholds[q] = threshold;
  lists.counts[q] = static_cast<int32_t>(kept);
  if (found > lists.capacity) queries.faults[q] = list_overflowed;
  if (dropped > queries.pruned[q]) queries.pruned[q] = dropped;
}

}  // namespace tilefold::cuda
