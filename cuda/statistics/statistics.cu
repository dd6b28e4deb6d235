// Statistics of columns of activations. Blocks of threads take 32 columns and a part of the rows;
// parts are then merged in order (Chan, Golub & LeVeque 1983), so that bits do not depend on timing.
#include "cuda/statistics/statistics.h"

#include <algorithm>

#include "cuda/platform/launch.h"
#include "cuda/platform/reduce.h"
#include "cuda/platform/values.h"

namespace tilefold::cuda {
namespace {

constexpr int columns_together = 32, row_groups = 8, column_threads = columns_together * row_groups;
constexpr int64_t rows_per_part = 512, most_parts = 64;

// Of the rows of each part, [parts, width].
struct Parts {
  int64_t n;
  double *mean, *m2;
  float *min, *max;

  __host__ __device__ int64_t begin(int64_t part, int64_t rows) const { return rows * part / n; }
};

struct ColumnShared {
  SharedArray<double, column_threads> doubles;
  SharedArray<float, column_threads> min, max;
};

// The sum of a column over the groups of rows.
__device__ inline double sum_groups(SharedArray<double, column_threads>& shared, double value) {
  __syncthreads();
  shared[threadIdx.x] = value;
  __syncthreads();
  double sum = 0;
  for (int g = 0; g < row_groups; ++g)
    sum += shared[g * columns_together + threadIdx.x % columns_together];
  return sum;
}

__device__ inline int histogram_bin(float x) {
  const uint32_t bits = __float_as_uint(x);
  // The exponent and three bits of the fraction: an octave has eight bins.
  const int place =
      static_cast<int>((bits & 0x7fffffffu) >> 20) - (127 + min_octave) * bins_per_octave;
  if (place < 0) return bins_per_sign;
  const int bin = place < bins_per_sign ? place : bins_per_sign - 1;
  return bits & 0x80000000u ? bins_per_sign - 1 - bin : bins_per_sign + 1 + bin;
}

template <class T>
__global__ void __launch_bounds__(column_threads)
    fold_columns(const __grid_constant__ StatisticsArgs a, const __grid_constant__ Parts parts) {
  ColumnShared& shared = shared_memory<ColumnShared>();
  const int64_t column =
      blockIdx.x * static_cast<int64_t>(columns_together) + threadIdx.x % columns_together;
  const bool inside = column < a.x.dim;
  const int64_t begin = parts.begin(blockIdx.y, a.n), end = parts.begin(blockIdx.y + 1, a.n);
  const auto for_rows = [&](auto visit) {
    for (int64_t r = begin + threadIdx.x / columns_together; inside && r < end; r += row_groups)
      visit(widened(row_of<T>(a.x, a.rows[r])[column]));
  };
  double sum = 0;
  float min = INFINITY, max = -INFINITY;
  for_rows([&](float x) {
    sum += x;
    min = x < min ? x : min;
    max = x > max ? x : max;
  });
  const double mean = sum_groups(shared.doubles, sum) / static_cast<double>(end - begin);
  double squares = 0;
  for_rows([&](float x) { squares += (x - mean) * (x - mean); });
  squares = sum_groups(shared.doubles, squares);
  shared.min[threadIdx.x] = min;
  shared.max[threadIdx.x] = max;
  __syncthreads();
  if (inside && threadIdx.x < columns_together) {
    for (int g = 1; g < row_groups; ++g) {
      const int at = g * columns_together + static_cast<int>(threadIdx.x);
      min = shared.min[at] < min ? shared.min[at] : min;
      max = shared.max[at] > max ? shared.max[at] : max;
    }
    const int64_t place = blockIdx.y * a.x.dim + column;
    parts.mean[place] = mean;
    parts.m2[place] = squares;
    parts.min[place] = min;
    parts.max[place] = max;
  }
  for (int64_t t = 0; t < a.n_thresholds; ++t) {
    int64_t count = 0;
    for_rows([&](float x) { count += x > a.thresholds[t]; });
    if (count) add_wrapping(a.above + t * a.x.dim + column, count);
  }
  if (!a.histogram) return;
  for_rows([&](float x) {
    if (x == x) add_wrapping(a.histogram + column * histogram_bins + histogram_bin(x), 1);
  });
}

__global__ void __launch_bounds__(column_threads)
    merge_parts(const __grid_constant__ StatisticsArgs a, const __grid_constant__ Parts parts) {
  const int64_t column = blockIdx.x * static_cast<int64_t>(column_threads) + threadIdx.x;
  if (column >= a.x.dim) return;
  double mean = a.mean[column], m2 = a.m2[column], before = static_cast<double>(*a.count);
  float min = a.min[column], max = a.max[column];
  for (int64_t p = 0; p < parts.n; ++p) {
    const int64_t place = p * a.x.dim + column;
    const double here = static_cast<double>(parts.begin(p + 1, a.n) - parts.begin(p, a.n));
    const double shift = parts.mean[place] - mean, share = here / (before + here);
    mean += shift * share;
    m2 += parts.m2[place] + shift * shift * before * share;
    min = parts.min[place] < min ? parts.min[place] : min;
    max = parts.max[place] > max ? parts.max[place] : max;
    before += here;
  }
  a.mean[column] = mean;
  a.m2[column] = m2;
  a.min[column] = min;
  a.max[column] = max;
}

__global__ void add_rows(int64_t* count, int64_t n) { *count += n; }

}  // namespace

void statistics(const StatisticsArgs& a, int, Pulse&) {
  if (a.n == 0) return;
  const Stream stream("statistics", a.device);
  const DeviceGuard guard(stream);
  const int64_t width = a.x.dim;
  const int64_t n = std::clamp<int64_t>(a.n / rows_per_part, 1, most_parts);
  DeviceBuffer<double> doubles(stream, 2 * n * width);
  DeviceBuffer<float> floats(stream, 2 * n * width);
  const Parts parts = {n, doubles.data(), doubles.data() + n * width, floats.data(),
                       floats.data() + n * width};
  for_dtype(a.x.dtype, [&](auto type) {
    launch("fold_columns", fold_columns<decltype(type)>,
           {blocks_for(width, columns_together), n, column_threads, sizeof(ColumnShared)}, stream,
           a, parts);
  });
  launch("merge_parts", merge_parts, {blocks_for(width, column_threads), 1, column_threads}, stream,
         a, parts);
  launch("add_rows", add_rows, {1, 1, 1}, stream, a.count, a.n);
}

}  // namespace tilefold::cuda
