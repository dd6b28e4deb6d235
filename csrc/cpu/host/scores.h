// Scores of a block of queries with all documents, in one view of them; and, once a loss has
// replaced the scores by their gradients, the two products that give the gradients of queries and
// documents.
#pragma once
#include <memory>

#include "contract/matrix.h"
#include "cpu/host/buffer.h"
#include "cpu/rows/table.h"
#include "cpu/host/walk.h"

namespace tilefold::cpu {

// T is fp64 for fp64 inputs, fp32 for others.
template <class T>
class Scores {
 public:
  static std::unique_ptr<Scores> make(const Matrix& queries, const Matrix& documents,
                                      const Walk& walk, const Row& row);
  virtual ~Scores() = default;

  // Packs the queries of the walk's block, for products of both directions.
  void load_queries() {
    walk_.parallel(walk_.panels(), [&](int64_t p) { pack(p); });
  }
  // Inner products with the documents of a chunk.
  virtual void multiply(int64_t chunk) = 0;
  // -inf for queries that pad the last panel.
  void mask_padding(int64_t chunk);

  T* panel(int64_t p, int64_t document = 0) {
    return scores_.data() + (p * walk_.m + document) * walk_.width;
  }
  T& at(int64_t query, int64_t document) {
    return panel(query / walk_.width, document)[query % walk_.width];
  }

  // Gradients of a chunk's scores times queries.
  virtual void multiply_for_documents(int64_t chunk, T* out, bool accumulate) = 0;
  // Gradients of all scores of the block times documents; splits the work among threads.
  void multiply_for_queries(T* out) {
    walk_.parallel(ceil_div(tiles_, tile_group_), [&](int64_t g) { add_to_queries(g, out); });
  }

 protected:
  Scores(const Matrix& queries, const Matrix& documents, const Walk& walk);
  virtual void pack(int64_t panel) = 0;
  // A few tiles of columns of [queries, documents] [documents, dim].
  virtual void add_to_queries(int64_t group, T* out) = 0;

  // Inner dimensions of products. A packed tile of `depth` stays in L1, and one of `panel_depth`
  // together with the panel of scores that it is multiplied by in the product for queries.
  static constexpr int64_t depth = 192, panel_depth = 128;

  Matrix query_matrix_, document_matrix_;
  const Walk& walk_;
  int64_t dim_, tiles_;  // tiles of columns of [.., dim]
  // Tiles per task of the product for queries. A task reads all scores of the block, so that it has
  // many tiles; threads have nearly the same number.
  int64_t tile_group_;

 private:
  Buffer<T> scores_;
};

extern template class Scores<float>;
extern template class Scores<double>;

}  // namespace tilefold::cpu
