// Scores of listed documents: a thread takes whole queries.
#include <vector>

#include "cpu/host/search.h"
#include "cpu/rows/table.h"
#include "parallel.h"

namespace tilefold::cpu {

void score(const ScoreArgs& a, int threads, Pulse&) {
  const SearchKernels& kernels = active_row().search;
  const int64_t n = a.queries.rows, dim = a.queries.dim;
  if (static_cast<double>(n * a.m) * dim < 1e6) threads = 1;
  parallel_for(n, threads, [&](int64_t i) {
    std::vector<float> wide(static_cast<size_t>(dim));
    kernels.widen(a.queries, i, wide.data());
    const int64_t* rows = a.rows + i * a.m;
    float* scores = a.scores + i * a.m;
    if (a.canonical)
      kernels.score({wide.data(), a.documents, rows, 0, a.m, scores});
    else
      kernels.estimate({wide.data(), a.documents, rows, a.m, scores});
  });
}

}  // namespace tilefold::cpu
