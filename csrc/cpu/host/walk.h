// The traversal of all pairs of queries and documents by a loss: blocks of queries, each against
// all documents, a chunk of documents at a time. The scores of a block lie in panels of as many
// queries as a tile has columns: [queries / width][documents][width].
#pragma once
#include <algorithm>
#include <functional>

#include "parallel.h"
#include "pulse.h"

namespace tilefold::cpu {

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

struct Walk {
  int64_t n, m, width;
  int64_t block;                // queries of a block; blocks have nearly one size
  int64_t chunks;               // of documents
  int64_t first = 0, rows = 0;  // queries of the current block
  int threads;
  Pulse& pulse;
  double beat = 0;  // share of the whole that scoring one chunk is

  static constexpr int64_t chunk_documents = 128;  // with their scores they fit in L2
  // Packing a chunk then takes 1 % of the time of using it.
  static constexpr int64_t max_block_queries = 512;
  static constexpr int64_t score_bytes = 40 << 20;  // of a block: most of the temporary memory

  // `pair_bytes`: memory for one pair of a block; `pair_work`: operations to score one pair.
  Walk(int64_t n, int64_t m, int64_t width, int64_t pair_bytes, double pair_work, int threads,
       Pulse& pulse)
      : n(n), m(m), width(width), threads(threads), pulse(pulse) {
    const int64_t fit = score_bytes / (m * width * pair_bytes);
    const int64_t panels = std::max<int64_t>(1, std::min(fit, max_block_queries / width));
    block = ceil_div(ceil_div(n, width), ceil_div(ceil_div(n, width), panels)) * width;
    chunks = ceil_div(m, chunk_documents);
    // Less work than this is done before other threads wake up.
    if (static_cast<double>(n) * static_cast<double>(m) * pair_work < 4e6) this->threads = 1;
  }

  int64_t blocks() const { return ceil_div(n, block); }
  void go_to(int64_t b) {
    first = b * block;
    rows = std::min(block, n - first);
  }
  int64_t panels() const { return ceil_div(rows, width); }
  int64_t first_document(int64_t chunk) const { return chunk * chunk_documents; }
  int64_t n_documents(int64_t chunk) const {
    return std::min(chunk_documents, m - first_document(chunk));
  }
  void set_passes(int n_passes) {
    beat = 1 / (static_cast<double>(n_passes) * static_cast<double>(blocks() * chunks));
  }
  void parallel(int64_t tasks, const std::function<void(int64_t)>& task) const {
    parallel_for(tasks, threads, task, [this] { pulse.poll(); });
  }
};

}  // namespace tilefold::cpu
