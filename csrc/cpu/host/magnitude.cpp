#include "cpu/host/magnitude.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "contract/search.h"
#include "cpu/rows/table.h"
#include "parallel.h"

namespace tilefold::cpu {
namespace {

// Magnitudes are ordered like the bits of numbers without their sign, and those of infinities and
// NaN are the largest.
double max_magnitude(const float* x, int64_t n) {
  int32_t max = 0;
  for (int64_t j = 0; j < n; ++j) {
    int32_t bits;
    std::memcpy(&bits, x + j, sizeof bits);
    max = std::max(max, bits & 0x7fffffff);
  }
  float value;
  std::memcpy(&value, &max, sizeof value);
  return static_cast<double>(value);
}

double max_magnitude(const double* x, int64_t n) {
  double max = 0;
  for (int64_t j = 0; j < n; ++j) {
    if (!std::isfinite(x[j])) return std::numeric_limits<double>::infinity();
    max = std::max(max, std::abs(x[j]));
  }
  return max;
}

// Not finite if an element is not. `wide` is memory for a row in fp32.
double row_magnitude(const Matrix& x, int64_t r, const SearchKernels& kernels, float* wide) {
  if (x.dtype == Dtype::f64)
    return max_magnitude(static_cast<const double*>(x.data) + r * x.row_stride, x.dim);
  if (x.dtype == Dtype::f32)
    return max_magnitude(static_cast<const float*>(x.data) + r * x.row_stride, x.dim);
  kernels.widen(x, r, wide);
  return max_magnitude(wide, x.dim);
}

struct Part {
  double magnitude = 0;
  int64_t nonfinite_row = -1;
};

}  // namespace

void max_magnitude(const MagnitudeArgs& a, int threads, Pulse&) {
  const SearchKernels& kernels = active_row().search;
  constexpr int64_t rows_per_task = 256;
  const Matrix& x = a.x;
  std::vector<Part> parts(static_cast<size_t>((x.rows + rows_per_task - 1) / rows_per_task));
  if (x.rows * x.dim < (1 << 21)) threads = 1;
  parallel_for(static_cast<int64_t>(parts.size()), threads, [&](int64_t t) {
    const bool widened = x.dtype != Dtype::f32 && x.dtype != Dtype::f64;
    std::vector<float> wide(widened ? static_cast<size_t>(padded_dim(x.dim)) : 0);
    Part& part = parts[static_cast<size_t>(t)];
    for (int64_t r = t * rows_per_task; r < std::min(x.rows, (t + 1) * rows_per_task); ++r) {
      const double magnitude = row_magnitude(x, r, kernels, wide.data());
      if (std::isfinite(magnitude))
        part.magnitude = std::max(part.magnitude, magnitude);
      else if (part.nonfinite_row < 0)
        part.nonfinite_row = r;
    }
  });
  *a.magnitude = 0;
  *a.nonfinite_row = -1;
  for (const Part& part : parts) {
    *a.magnitude = std::max(*a.magnitude, part.magnitude);
    if (*a.nonfinite_row < 0) *a.nonfinite_row = part.nonfinite_row;
  }
}

}  // namespace tilefold::cpu
