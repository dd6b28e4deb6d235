// Scores computed in fp32 or fp64, the type of the inputs or the one they are widened to.
#pragma once
#include "cpu/host/scores.h"

namespace tilefold::cpu {

template <class T>
class WideScores final : public Scores<T> {
 public:
  WideScores(const Matrix& queries, const Matrix& documents, const Walk& walk, const Row& row);
  void multiply(int64_t chunk) override;
  void multiply_for_documents(int64_t chunk, T* out, bool accumulate) override;

 private:
  using Base = Scores<T>;
  using Base::depth, Base::panel_depth, Base::tile_group_, Base::panel;
  using Base::query_matrix_, Base::document_matrix_, Base::walk_, Base::dim_, Base::tiles_;

  void pack(int64_t panel) override;
  void add_to_queries(int64_t group, T* out) override;
  const T* rows(const Matrix& m, int64_t first, int64_t n, T* buffer, int64_t& stride) const;
  Buffer<T> buffer_for(const Matrix& m, int64_t rows) const;

  const LossKernels<T>& k_;
  void (*widen_)(const Matrix&, int64_t, float*);
  Buffer<T> by_rows_;     // panels [width queries], transposed
  Buffer<T> by_columns_;  // the same queries, [tiles][block][width]
};

extern template class WideScores<float>;
extern template class WideScores<double>;

}  // namespace tilefold::cpu
