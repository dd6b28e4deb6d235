// Scores of listed documents: sixteen lanes take a pair of a query and a document.
#include "cuda/platform/launch.h"
#include "cuda/search/canonical.cuh"
#include "cuda/search/search.h"

namespace tilefold::cuda {
namespace {

constexpr int pair_threads = 256;

// `wide` has the queries as fp32.
template <class T>
__global__ void __launch_bounds__(pair_threads)
    score_pairs(const __grid_constant__ ScoreArgs a, const float* wide) {
  const int64_t dim = a.documents.dim, pairs = a.queries.rows * a.m;
  const int64_t pair =
      (blockIdx.x * static_cast<int64_t>(pair_threads) + threadIdx.x) / score_lanes;
  const int64_t at = pair < pairs ? pair : 0;
  const float score =
      canonical_score(wide + at / a.m * dim, row_of<T>(a.documents, a.rows[at]), dim);
  if (pair < pairs && threadIdx.x % score_lanes == 0) a.scores[pair] = score;
}

template <class T>
__global__ void __launch_bounds__(pair_threads)
    widen_rows(const __grid_constant__ Matrix x, float* wide) {
  const int64_t row = blockIdx.x;
  for (int64_t j = threadIdx.x; j < x.dim; j += pair_threads)
    wide[row * x.dim + j] = widened(row_of<T>(x, row)[j]);
}

}  // namespace

// Canonical scores are estimates, too.
void score(const ScoreArgs& a, int, Pulse&) {
  if (a.queries.rows * a.m == 0) return;
  const Stream stream("score", a.device);
  const DeviceGuard guard(stream);
  DeviceBuffer<float> wide(stream, a.queries.rows * a.queries.dim);
  for_dtype(a.queries.dtype, [&](auto type) {
    launch("widen_rows", widen_rows<decltype(type)>, {a.queries.rows, 1, pair_threads}, stream,
           a.queries, wide.data());
  });
  const int64_t blocks = blocks_for(a.queries.rows * a.m * score_lanes, pair_threads);
  for_dtype(a.documents.dtype, [&](auto type) {
    launch("score_pairs", score_pairs<decltype(type)>, {blocks, 1, pair_threads}, stream, a,
           wide.data());
  });
}

}  // namespace tilefold::cuda
