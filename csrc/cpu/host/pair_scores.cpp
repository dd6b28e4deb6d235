#include "cpu/host/pair_scores.h"

#include "cpu/host/prefetch.h"

namespace tilefold::cpu {
namespace {

const Bfloat* row(const Matrix& m, int64_t r) {
  return static_cast<const Bfloat*>(m.data) + r * m.row_stride;
}

}  // namespace

PairScores::PairScores(const Matrix& queries, const Matrix& documents, const Walk& walk,
                       const Row& row)
    : Scores(queries, documents, walk),
      k_(row.loss_bf16),
      even_dim_(ceil_div(dim_, 2) * 2),
      by_rows_(walk.block * even_dim_),
      by_columns_(walk.block * tiles_ * walk.width) {}

void PairScores::pack(int64_t p) {
  const int64_t width = walk_.width, first = p * width, n = std::min(width, walk_.rows - first);
  const int64_t stride = query_matrix_.row_stride;
  const Bfloat* x = row(query_matrix_, walk_.first + first);
  k_.pack_rows(x, stride, n, dim_, by_rows_.data() + first * even_dim_);
  for (int64_t t = 0; t < tiles_; ++t) {
    Bfloat* out = by_columns_.data() + (t * walk_.block + first) * width;
    k_.pack_columns(x + t * width, stride, n, std::min(width, dim_ - t * width), out);
    std::fill(out + ceil_div(n, 2) * 2 * width, out + width * width, Bfloat{0});
  }
}

void PairScores::multiply(int64_t chunk) {
  const int64_t first = walk_.first_document(chunk), width = walk_.width;
  for (int64_t p = 0; p < walk_.panels(); ++p)
    for (int64_t j = 0; j < dim_; j += depth)
      k_.multiply({row(document_matrix_, first) + j, walk_.n_documents(chunk),
                   document_matrix_.row_stride, std::min(depth, dim_ - j), 2,
                   by_rows_.data() + (p * even_dim_ + j) * width, panel(p, first), width, width,
                   j > 0});
}

// [documents, queries] [queries, dim], with as many queries per product as `depth` allows.
void PairScores::multiply_for_documents(int64_t chunk, float* out, bool accumulate) {
  const int64_t first = walk_.first_document(chunk), n = walk_.n_documents(chunk),
                width = walk_.width;
  const int64_t queries = walk_.panels() * width;
  Buffer<Bfloat> gradients(n * queries);  // [documents][queries]
  for (int64_t p = 0; p < walk_.panels(); ++p)
    k_.round_queries(panel(p, first), n, queries, gradients.data() + p * width);
  for (int64_t t = 0; t < tiles_; ++t)
    for (int64_t q = 0; q < queries; q += depth)
      k_.multiply({gradients.data() + q, n, queries, std::min(depth, queries - q), 2,
                   by_columns_.data() + (t * walk_.block + q) * width,
                   out + first * dim_ + t * width, dim_, std::min(width, dim_ - t * width),
                   accumulate || q > 0});
}

void PairScores::add_to_queries(int64_t group, float* out) {
  if (walk_.pulse.stopped()) return;
  const int64_t width = walk_.width, begin = group * tile_group_ * width;
  const int64_t end = std::min(dim_, begin + tile_group_ * width), size = sizeof(float);
  Buffer<Bfloat> tiles(tile_group_ * panel_depth * width), gradients(panel_depth * width);
  for (int64_t d = 0; d < walk_.m; d += panel_depth) {
    const int64_t n = std::min(panel_depth, walk_.m - d);
    for (int64_t j = begin; j < end; j += width)
      k_.pack_columns(row(document_matrix_, d) + j, document_matrix_.row_stride, n,
                      std::min(width, dim_ - j), tiles.data() + (j - begin) * panel_depth);
    for (int64_t p = 0; p < walk_.panels(); ++p) {
      if (p + 1 < walk_.panels()) prefetch_rows(panel(p + 1, d), n, width * size, width * size);
      k_.round_documents(panel(p, d), n, gradients.data());
      for (int64_t j = begin; j < end; j += width)
        k_.multiply({gradients.data(), std::min(width, walk_.rows - p * width), 2, n, 2 * width,
                     tiles.data() + (j - begin) * panel_depth,
                     out + (walk_.first + p * width) * dim_ + j, dim_, std::min(width, dim_ - j),
                     d > 0});
    }
  }
}

}  // namespace tilefold::cpu
