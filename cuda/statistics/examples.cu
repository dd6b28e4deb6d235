// The examples with the largest values of each column: the maximum of each example's rows, a thread
// per example and column, then the k best of each column, a thread per column.
#include "cuda/platform/launch.h"
#include "cuda/platform/values.h"
#include "cuda/statistics/statistics.h"

namespace tilefold::cuda {
namespace {

constexpr int example_threads = 128;

// A NaN is never the maximum.
template <class T>
__global__ void __launch_bounds__(example_threads)
    max_of_examples(const __grid_constant__ ExamplesArgs a, float* values) {
  const int64_t column = blockIdx.x * static_cast<int64_t>(example_threads) + threadIdx.x;
  const int64_t example = blockIdx.y;
  if (column >= a.x.dim) return;
  float max = -INFINITY;
  for (int64_t r = a.offsets[example]; r < a.offsets[example + 1]; ++r) {
    const float x = widened(row_of<T>(a.x, a.rows[r])[column]);
    max = x > max ? x : max;
  }
  values[example * a.x.dim + column] = max;
}

// Values are descending; ties are ordered by number.
__global__ void __launch_bounds__(example_threads)
    keep_examples(const __grid_constant__ ExamplesArgs a, const float* found, int64_t n) {
  const int64_t column = blockIdx.x * static_cast<int64_t>(example_threads) + threadIdx.x;
  if (column >= a.x.dim) return;
  float* const values = a.values + column * a.k;
  int64_t* const numbers = a.examples + column * a.k;
  for (int64_t e = 0; e < n; ++e) {
    if (a.offsets[e] == a.offsets[e + 1]) continue;
    const float value = found[e * a.x.dim + column];
    const int64_t number = a.numbers[e];
    const auto better = [&](int64_t i) {
      return value > values[i] || (value == values[i] && (numbers[i] < 0 || number < numbers[i]));
    };
    if (!better(a.k - 1)) continue;
    int64_t i = a.k - 1;
    for (; i > 0 && better(i - 1); --i) {
      values[i] = values[i - 1];
      numbers[i] = numbers[i - 1];
    }
    values[i] = value;
    numbers[i] = number;
  }
}

}  // namespace

void examples(const ExamplesArgs& a, int, Pulse&) {
  if (a.n == 0) return;
  constexpr int64_t most_together = 1024;
  const Stream stream("examples", a.device);
  const DeviceGuard guard(stream);
  const int64_t blocks = blocks_for(a.x.dim, example_threads);
  DeviceBuffer<float> values(stream, (a.n < most_together ? a.n : most_together) * a.x.dim);
  for (int64_t first = 0; first < a.n; first += most_together) {
    const int64_t n = a.n - first < most_together ? a.n - first : most_together;
    ExamplesArgs part = a;
    part.offsets += first;
    part.numbers += first;
    for_dtype(a.x.dtype, [&](auto type) {
      launch("max_of_examples", max_of_examples<decltype(type)>, {blocks, n, example_threads},
             stream, part, values.data());
    });
    launch("keep_examples", keep_examples, {blocks, 1, example_threads}, stream, part,
           values.data(), n);
  }
}

}  // namespace tilefold::cuda
