#include "cpu/host/scores.h"

#include <limits>

#include "cpu/host/pair_scores.h"
#include "cpu/host/wide_scores.h"

namespace tilefold::cpu {
namespace {

constexpr int64_t most_tiles = 8;  // of a task: packed, they fit in L2

// The size of tasks, at most `most` of n >= 1 things, so that threads have nearly the same number.
int64_t even_share(int64_t n, int64_t most, int64_t threads) {
  const int64_t tasks = ceil_div(ceil_div(n, most), threads) * threads;
  return ceil_div(n, tasks);
}

}  // namespace

template <class T>
Scores<T>::Scores(const Matrix& queries, const Matrix& documents, const Walk& walk)
    : query_matrix_(queries),
      document_matrix_(documents),
      walk_(walk),
      dim_(queries.dim),
      tiles_(ceil_div(dim_, walk.width)),
      tile_group_(even_share(tiles_, most_tiles, walk.threads)),
      scores_(walk.block * walk.m) {}

template <class T>
std::unique_ptr<Scores<T>> Scores<T>::make(const Matrix& queries, const Matrix& documents,
                                           const Walk& walk, const Row& row) {
  if constexpr (sizeof(T) == 4)
    if (queries.dtype == Dtype::bf16 && documents.dtype == Dtype::bf16 && row.loss_bf16.multiply)
      return std::make_unique<PairScores>(queries, documents, walk, row);
  return std::make_unique<WideScores<T>>(queries, documents, walk, row);
}

template <class T>
void Scores<T>::mask_padding(int64_t chunk) {
  const int64_t first = walk_.first_document(chunk), n = walk_.n_documents(chunk),
                width = walk_.width;
  for (int64_t q = walk_.rows; q < walk_.panels() * width; ++q)
    for (int64_t d = first; d < first + n; ++d)
      panel(q / width, d)[q % width] = -std::numeric_limits<T>::infinity();
}

template class Scores<float>;
template class Scores<double>;

}  // namespace tilefold::cpu
