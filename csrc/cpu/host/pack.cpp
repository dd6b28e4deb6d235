// Preparation of documents: quantisation, and the search for NaN and infinities. Threads take
// ranges of about a thousand rows.
#include <algorithm>
#include <vector>

#include "cpu/host/search.h"
#include "cpu/rows/table.h"
#include "parallel.h"

namespace tilefold::cpu {

void pack(const PackArgs& a, int threads, Pulse& pulse) {
  const SearchKernels& kernels = active_row().search;
  constexpr int64_t blocks_per_task = 32;  // 1,024 documents
  const int64_t blocks = block_count(a.documents.rows);
  const int64_t tasks = (blocks + blocks_per_task - 1) / blocks_per_task;
  parallel_for(
      tasks, threads,
      [&](int64_t t) {
        const int64_t end = std::min(blocks, (t + 1) * blocks_per_task);
        for (int64_t b = t * blocks_per_task; b < end; ++b) {
          if (pulse.stopped()) return;
          kernels.pack_documents(a, b);
        }
        pulse.beat(1.0 / static_cast<double>(tasks));
      },
      [&] { pulse.poll(); });
}

void finite_rows(const FiniteRowsArgs& a, int threads, Pulse&) {
  const SearchKernels& kernels = active_row().search;
  const Matrix& x = a.vectors;
  constexpr int64_t rows_per_task = 1024;
  parallel_for((x.rows + rows_per_task - 1) / rows_per_task, threads, [&](int64_t t) {
    std::vector<float> wide(static_cast<size_t>(padded_dim(x.dim)));
    for (int64_t r = t * rows_per_task; r < std::min(x.rows, (t + 1) * rows_per_task); ++r) {
      kernels.widen(x, r, wide.data());
      a.finite[r] = kernels.finite(wide.data(), x.dim);
    }
  });
}

}  // namespace tilefold::cpu
