#include "ops/embeddings.h"

#include <algorithm>

#include "check.h"

namespace tilefold::ops {
namespace {

double finite_magnitude(const EmbeddingPair& names, const std::string& argument, const Matrix& x,
                        Device device, int threads, Pulse& pulse) {
  double magnitude = 0;
  int64_t nonfinite_row = -1;
  const Op<MagnitudeArgs> run =
      find_op(&Implementation::max_magnitude, names.op.c_str(), argument.c_str(), device);
  run({device, x, &magnitude, &nonfinite_row}, threads, pulse);
  check(nonfinite_row < 0, names.op, ": ", argument, " have a NaN or an infinity in row ",
        nonfinite_row);
  return magnitude;
}

}  // namespace

void check_pair(const EmbeddingPair& names, const Matrix& queries, const Matrix& documents) {
  check(queries.dim == documents.dim, names.op, ": ", names.queries, " have dim ", queries.dim,
        " but documents have dim ", documents.dim);
  check_type(queries.dtype == documents.dtype && queries.dtype != Dtype::i8, names.op, ": ",
             names.queries, " and documents must have one floating-point dtype");
}

void check_values(const EmbeddingPair& names, const Matrix& queries, const Matrix& documents,
                  double scale, Device device, int threads, Pulse& pulse) {
  if (!host_readable(device)) return;  // the call would have to wait for the device
  const double q = finite_magnitude(names, names.queries, queries, device, threads, pulse);
  const double d = finite_magnitude(names, names.documents, documents, device, threads, pulse);
  if (queries.dtype == Dtype::f64) return;
  const double max_score = q * d * static_cast<double>(queries.dim);
  check(max_score * std::max(scale, 1.0) < 3e38, names.op, ": ", names.scores, " may reach ",
        max_score * scale, ", beyond float32; scale embeddings down or pass float64");
}

void* gradient_pointer(const Matrix& m, const View& gradient) {
  if (m.dtype == Dtype::f64)
    return gradient.write_if_given<double>(saturated_product(m.rows, m.dim));
  return gradient.write_if_given<float>(saturated_product(m.rows, m.dim));
}

}  // namespace tilefold::ops
