// Sums of products of columns, in fp64: exact products, added in the order of rows.
#include <algorithm>

#include "cuda/platform/launch.h"
#include "cuda/platform/product.cuh"
#include "cuda/platform/values.h"
#include "cuda/statistics/statistics.h"

namespace tilefold::cuda {
namespace {

constexpr int gather_threads = 256;
constexpr int64_t rows_together = 8192;

template <class T>
__global__ void __launch_bounds__(gather_threads)
    gather_rows(const __grid_constant__ Matrix x, const int64_t* rows, float* wide) {
  const T* const from = row_of<T>(x, rows[blockIdx.x]);
  for (int64_t j = threadIdx.x; j < x.dim; j += gather_threads)
    wide[blockIdx.x * x.dim + j] = widened(from[j]);
}

}  // namespace

void second_moment(const SecondMomentArgs& a, int, Pulse&) {
  const Stream stream("second_moment", a.device);
  const DeviceGuard guard(stream);
  const int64_t width = a.x.dim;
  DeviceBuffer<float> wide(stream, std::min(rows_together, a.n) * width);
  for (int64_t first = 0; first < a.n; first += rows_together) {
    const int64_t n = std::min(rows_together, a.n - first);
    for_dtype(a.x.dtype, [&](auto type) {
      launch("gather_rows", gather_rows<decltype(type)>, {n, 1, gather_threads}, stream, a.x,
             a.rows + first, wide.data());
    });
    ProductArgs<double, float, float> product = {
        {wide.data(), 1, width}, {wide.data(), 1, width}, a.sums, width, width, n, width, true};
    product.lower_triangle = true;
    launch_product(stream, product);
  }
}

}  // namespace tilefold::cuda
