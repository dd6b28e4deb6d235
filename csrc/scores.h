// Scores of a block of queries with all documents, in one view of them; and, once a loss has turned
// the scores into their gradients, the two products that carry these on to queries and documents.
#pragma once
#include <cstddef>
#include <memory>

#include "args.h"
#include "kernels.h"
#include "walk.h"

namespace tilefold {

// Memory for tiles, on whole cache lines, not initialised.
template <class T>
class Buffer {
 public:
  explicit Buffer(int64_t size = 0)
      : memory_(new T[static_cast<std::size_t>(size) + 64 / sizeof(T)]) {
    const auto address = reinterpret_cast<uintptr_t>(memory_.get());
    data_ = memory_.get() + (64 - address % 64) % 64 / sizeof(T);
  }
  T* data() { return data_; }

 private:
  std::unique_ptr<T[]> memory_;
  T* data_;
};

// T is fp64 for fp64 inputs, fp32 for others.
template <class T>
class Scores {
 public:
  Scores(const Matrix& queries, const Matrix& documents, const Walk& walk, const Kernels& row);

  // Packs the queries of the walk's block, for products of both directions.
  void load_queries();
  // Inner products with the documents of a chunk.
  void multiply(int64_t chunk);
  // -inf for queries that pad the last panel.
  void leave_out_padding(int64_t chunk);

  T* panel(int64_t p, int64_t document = 0) {
    return scores_.data() + (p * walk_.m + document) * walk_.width;
  }
  T& at(int64_t query, int64_t document) {
    return panel(query / walk_.width, document)[query % walk_.width];
  }

  // Gradients of a chunk's scores, which stand in their place, times queries.
  void multiply_for_documents(int64_t chunk, T* out, bool accumulate);
  // Gradients of all scores of the block times documents; splits the work among threads.
  void multiply_for_queries(T* out);

 private:
  const T* rows(const Matrix& m, int64_t first, int64_t n, T* buffer, int64_t& stride) const;
  Buffer<T> buffer_for(const Matrix& m, int64_t rows) const;
  void pack(int64_t panel);
  void fold_into_queries(int64_t group, T* out);

  Matrix query_matrix_, document_matrix_;
  const Walk& walk_;
  const LossKernels<T>& k_;
  void (*widen_)(const Matrix&, int64_t, float*);
  int64_t dim_, tiles_;   // tiles of columns of [.., dim]
  Buffer<T> by_rows_;     // panels [width queries], transposed
  Buffer<T> by_columns_;  // the same queries, [tiles][block][width]
  Buffer<T> scores_;
};

extern template class Scores<float>;
extern template class Scores<double>;

template <class T>
const LossKernels<T>& loss_kernels(const Kernels& row);
template <>
inline const LossKernels<float>& loss_kernels<float>(const Kernels& row) {
  return row.loss_fp32;
}
template <>
inline const LossKernels<double>& loss_kernels<double>(const Kernels& row) {
  return row.loss_fp64;
}

}  // namespace tilefold
