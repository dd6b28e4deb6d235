#include "cpu/host/wide_scores.h"

#include "cpu/host/prefetch.h"

namespace tilefold::cpu {

template <class T>
WideScores<T>::WideScores(const Matrix& queries, const Matrix& documents, const Walk& walk,
                          const Row& row)
    : Base(queries, documents, walk),
      k_(loss_kernels<T>(row)),
      widen_(row.search.widen),
      by_rows_(walk.block * dim_),
      by_columns_(walk.block * tiles_ * walk.width) {}

// Some rows as T: in place, or widened into `buffer`.
template <class T>
const T* WideScores<T>::rows(const Matrix& m, int64_t first, int64_t n, T* buffer,
                             int64_t& stride) const {
  constexpr Dtype own = sizeof(T) == 4 ? Dtype::f32 : Dtype::f64;
  if (m.dtype == own) {
    stride = m.row_stride;
    return static_cast<const T*>(m.data) + first * m.row_stride;
  }
  stride = m.dim;
  if constexpr (sizeof(T) == 4)
    for (int64_t i = 0; i < n; ++i) widen_(m, first + i, buffer + i * m.dim);
  return buffer;
}

template <class T>
Buffer<T> WideScores<T>::buffer_for(const Matrix& m, int64_t rows) const {
  constexpr Dtype own = sizeof(T) == 4 ? Dtype::f32 : Dtype::f64;
  return Buffer<T>(m.dtype == own ? 0 : rows * m.dim);
}

template <class T>
void WideScores<T>::pack(int64_t p) {
  const int64_t width = walk_.width, first = p * width, n = std::min(width, walk_.rows - first);
  int64_t stride;
  Buffer<T> wide = buffer_for(query_matrix_, width);
  const T* x = rows(query_matrix_, walk_.first + first, n, wide.data(), stride);
  k_.pack_rows(x, stride, n, dim_, by_rows_.data() + first * dim_);
  for (int64_t t = 0; t < tiles_; ++t) {
    T* out = by_columns_.data() + (t * walk_.block + first) * width;
    k_.pack_columns(x + t * width, stride, n, std::min(width, dim_ - t * width), out);
    std::fill(out + n * width, out + width * width, T(0));
  }
}

template <class T>
void WideScores<T>::multiply(int64_t chunk) {
  const int64_t first = walk_.first_document(chunk), n = walk_.n_documents(chunk),
                width = walk_.width;
  int64_t stride;
  Buffer<T> wide = buffer_for(document_matrix_, n);
  const T* documents = rows(document_matrix_, first, n, wide.data(), stride);
  for (int64_t p = 0; p < walk_.panels(); ++p)
    for (int64_t j = 0; j < dim_; j += depth)
      k_.multiply({documents + j, n, stride, 1, 0, std::min(depth, dim_ - j), 1,
                   by_rows_.data() + (p * dim_ + j) * width, panel(p, first), width, width, j > 0});
}

// [documents, queries] [queries, dim], with as many panels per product as `depth` allows. Queries
// that pad the last panel are zeros.
template <class T>
void WideScores<T>::multiply_for_documents(int64_t chunk, T* out, bool accumulate) {
  const int64_t first = walk_.first_document(chunk), n = walk_.n_documents(chunk),
                width = walk_.width;
  const int64_t panels_per_product = std::max<int64_t>(1, depth / width);
  for (int64_t t = 0; t < tiles_; ++t)
    for (int64_t p = 0; p < walk_.panels(); p += panels_per_product)
      k_.multiply({panel(p, first), n, width, std::min(panels_per_product, walk_.panels() - p),
                   walk_.m * width, width, 1,
                   by_columns_.data() + (t * walk_.block + p * width) * width,
                   out + first * dim_ + t * width, dim_, std::min(width, dim_ - t * width),
                   accumulate || p > 0});
}

// Scores and documents are read from L3 or memory, and prefetched while those before are used (8,192
// queries: 67 to 77 % of the FMA peak with AVX2).
template <class T>
void WideScores<T>::add_to_queries(int64_t group, T* out) {
  if (walk_.pulse.stopped()) return;
  const int64_t width = walk_.width, begin = group * tile_group_ * width;
  const int64_t end = std::min(dim_, begin + tile_group_ * width), size = sizeof(T);
  Buffer<T> wide = buffer_for(document_matrix_, panel_depth);
  Buffer<T> tiles(tile_group_ * panel_depth * width);
  for (int64_t d = 0; d < walk_.m; d += panel_depth) {
    const int64_t n = std::min(panel_depth, walk_.m - d);
    int64_t stride;
    const T* documents = rows(document_matrix_, d, n, wide.data(), stride);
    for (int64_t j = begin; j < end; j += width)
      k_.pack_columns(documents + j, stride, n, std::min(width, dim_ - j),
                      tiles.data() + (j - begin) * panel_depth);
    for (int64_t p = 0; p < walk_.panels(); ++p) {
      if (p + 1 < walk_.panels()) prefetch_rows(panel(p + 1, d), n, width * size, width * size);
      const int64_t left = wide.data() == documents ? 0 : std::min(n, walk_.m - d - n);
      const int64_t done = left * p / walk_.panels();
      prefetch_rows(documents + (n + done) * stride + begin, left * (p + 1) / walk_.panels() - done,
                    (end - begin) * size, stride * size);
      for (int64_t j = begin; j < end; j += width)
        k_.multiply({panel(p, d), std::min(width, walk_.rows - p * width), 1, 1, 0, n, width,
                     tiles.data() + (j - begin) * panel_depth,
                     out + (walk_.first + p * width) * dim_ + j, dim_, std::min(width, dim_ - j),
                     d > 0});
    }
  }
}

template class WideScores<float>;
template class WideScores<double>;

}  // namespace tilefold::cpu
