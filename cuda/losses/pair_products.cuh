// The three products of a loss over a block of queries and all documents: their scores, and once
// these hold gradients, the gradients of queries and documents. E is the dtype of embeddings.
#pragma once
#include <algorithm>
#include <type_traits>

#include "cuda/platform/bf16_product.cuh"

namespace tilefold::cuda {

// Queries of a block, of which a row of scores takes `row_bytes`.
inline int64_t block_queries(int64_t n, int64_t row_bytes) {
  constexpr int64_t score_bytes = int64_t{256} << 20, most = 4096;
  return std::clamp<int64_t>(score_bytes / std::max<int64_t>(1, row_bytes), 1, std::min(most, n));
}

// Queries first, first + 1, ... of `queries`, `rows` of them.
struct QueryBlock {
  int64_t first, rows;
};

// Products on tensor cores for bf16, on the general cores for others.
template <class E, class T, class A, class B>
void launch_pair_product(const Stream& stream, const ProductArgs<T, A, B>& product) {
  if constexpr (std::is_same_v<E, Bfloat>)
    launch_bf16_product(stream, product);
  else
    launch_product(stream, product);
}

// scores [rows, m]
template <class E, class T>
void multiply_scores(const Stream& stream, const Matrix& queries, const Matrix& documents,
                     const QueryBlock& block, T* scores) {
  ProductArgs<T, E, E> product = {by_rows<E>(queries, block.first), by_rows<E>(documents), scores};
  product.rows = block.rows;
  product.columns = product.c_stride = documents.rows;
  product.inner = queries.dim;
  launch_pair_product<E>(stream, product);
}

// The block's rows of grad_queries [n, dim], from gradients [rows, m].
template <class E, class T>
void multiply_for_queries(const Stream& stream, const T* gradients, const Matrix& documents,
                          const QueryBlock& block, void* grad_queries) {
  const int64_t dim = documents.dim;
  ProductArgs<T, T, E> product = {{gradients, documents.rows, 1},
                                  by_columns<E>(documents),
                                  static_cast<T*>(grad_queries) + block.first * dim};
  product.rows = block.rows;
  product.columns = product.c_stride = dim;
  product.inner = documents.rows;
  launch_pair_product<E>(stream, product);
}

// The block's part of grad_documents [m, dim], which is added if `accumulate`.
template <class E, class T>
void multiply_for_documents(const Stream& stream, const T* gradients, const Matrix& queries,
                            int64_t m, const QueryBlock& block, void* grad_documents,
                            bool accumulate) {
  ProductArgs<T, T, E> product = {
      {gradients, 1, m}, by_columns<E>(queries, block.first), static_cast<T*>(grad_documents)};
  product.rows = m;
  product.columns = product.c_stride = queries.dim;
  product.inner = block.rows;
  product.accumulate = accumulate;
  launch_pair_product<E>(stream, product);
}

}  // namespace tilefold::cuda
