// The canonical score, by sixteen lanes of a warp: lane l adds the dimensions j = l (mod 16) in
// increasing j, and the sums are added pairwise as on the CPU (cpu/lanes/score.h). Products of two
// fp32 numbers are exact in fp64, so that fused multiply-adds give the same bits.
#pragma once
#include "cuda/platform/reduce.h"
#include "cuda/platform/values.h"

namespace tilefold::cuda {

constexpr int score_lanes = 16;

// For all lanes of a warp: its halves may have different documents, and all must call.
template <class T>
__device__ float canonical_score(const float* query, const T* document, int64_t dim) {
  double sum = 0;
  for (int64_t j = threadIdx.x % score_lanes; j < dim; j += score_lanes)
    sum = fma(static_cast<double>(query[j]), static_cast<double>(widened(document[j])), sum);
  return static_cast<float>(reduce_lanes<score_lanes, Sum>(sum));
}

// Order is defined for numbers alone.
__device__ inline float ordered(float score) { return score == score ? score : -INFINITY; }

}  // namespace tilefold::cuda
