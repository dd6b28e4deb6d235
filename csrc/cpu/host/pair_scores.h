// Scores of bf16 inputs as such, on rows that multiply bf16 pairs: fp32 scores, as exact as those of
// widened inputs. Their gradients are rounded to bf16 for the two products that carry them on.
#pragma once
#include "cpu/host/scores.h"

namespace tilefold {

class PairScores final : public Scores<float> {
 public:
  PairScores(const Matrix& queries, const Matrix& documents, const Walk& walk, const Kernels& row);
  void multiply(int64_t chunk) override;
  void multiply_for_documents(int64_t chunk, float* out, bool accumulate) override;

 private:
  void pack(int64_t panel) override;
  void fold_into_queries(int64_t group, float* out) override;

  const PairKernels& k_;
  int64_t even_dim_;           // dim, rounded up
  Buffer<Bfloat> by_rows_;     // panels [even_dim / 2][width][2]
  Buffer<Bfloat> by_columns_;  // the same queries, [tiles][block / 2][width][2]
};

}  // namespace tilefold
