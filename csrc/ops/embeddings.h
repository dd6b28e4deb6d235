// Queries and documents of a loss: their dtypes, their values and the memory of their gradients.
#pragma once
#include <string>

#include "contract/matrix.h"
#include "kernels.h"
#include "view.h"

namespace tilefold::ops {

// The names that messages use.
struct EmbeddingPair {
  std::string op, queries, documents;
  std::string scores = "scores";
};

// Checks that queries and documents have one dim and one floating-point dtype.
void check_pair(const EmbeddingPair& names, const Matrix& queries, const Matrix& documents);

// Checks that all values are finite, and that no score can leave the range of fp32, where it would
// be infinite, and NaN where infinities cancel. Values on devices that the host cannot read are not
// checked.
void check_values(const EmbeddingPair& names, const Matrix& queries, const Matrix& documents,
                  double scale, Device device, int threads, Pulse& pulse);

// The gradient of a matrix, or null if absent: fp64 for fp64 inputs, fp32 for all others.
void* gradient_pointer(const Matrix& m, const View& gradient);

}  // namespace tilefold::ops
