// Scores of bf16 inputs on rows that multiply pairs of bf16: fp32 scores, as accurate as those of
// widened inputs. Gradients of scores are rounded to bf16 for the two products that use them.
#pragma once
#include "cpu/host/scores.h"

namespace tilefold::cpu {

class PairScores final : public Scores<float> {
 public:
  PairScores(const Matrix& queries, const Matrix& documents, const Walk& walk, const Row& row);
  void multiply(int64_t chunk) override;
  void multiply_for_documents(int64_t chunk, float* out, bool accumulate) override;

 private:
  void pack(int64_t panel) override;
  void add_to_queries(int64_t group, float* out) override;

  const PairKernels& k_;
  int64_t even_dim_;           // dim, rounded up
  Buffer<Bfloat> by_rows_;     // panels [even_dim / 2][width][2]
  Buffer<Bfloat> by_columns_;  // the same queries, [tiles][block / 2][width][2]
};

}  // namespace tilefold::cpu
