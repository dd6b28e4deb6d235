#include "cpu/host/statistics.h"

#include <algorithm>
#include <functional>

#include "cpu/host/buffer.h"
#include "cpu/host/walk.h"
#include "cpu/lanes/statistics_args.h"
#include "cpu/rows/table.h"
#include "parallel.h"

namespace tilefold::cpu {
namespace {

// Calls fold(begin, end) for ranges of columns, one range per thread. For few elements it would
// take longer to wake threads than to use one.
void for_columns(int64_t width, int64_t elements, int threads,
                 const std::function<void(int64_t begin, int64_t end)>& fold) {
  const int64_t strips = ceil_div(width, strip_columns);
  const int64_t parts = elements < 100000 ? 1 : std::min<int64_t>(strips, threads);
  parallel_for(parts, threads, [&](int64_t p) {
    fold(strips * p / parts * strip_columns,
         std::min(width, strips * (p + 1) / parts * strip_columns));
  });
}

// Inserts a value into the k best of a column, which are descending; ties are ordered by number.
void insert_sorted(float value, int64_t number, int64_t k, float* values, int64_t* numbers) {
  const auto better = [&](int64_t i) {
    return value > values[i] || (value == values[i] && (numbers[i] < 0 || number < numbers[i]));
  };
  if (!better(k - 1)) return;
  int64_t i = k - 1;
  for (; i > 0 && better(i - 1); --i) {
    values[i] = values[i - 1];
    numbers[i] = numbers[i - 1];
  }
  values[i] = value;
  numbers[i] = number;
}

}  // namespace

void statistics(const StatisticsArgs& a, int threads, Pulse&) {
  if (a.n == 0) return;
  const StatisticsKernels& kernels = active_row().statistics;
  for_columns(a.x.dim, a.n * a.x.dim, threads,
              [&](int64_t begin, int64_t end) { kernels.fold(a, begin, end); });
  *a.count += a.n;
}

void examples(const ExamplesArgs& a, int threads, Pulse&) {
  const StatisticsKernels& kernels = active_row().statistics;
  for_columns(a.x.dim, a.n_rows * a.x.dim, threads, [&](int64_t begin, int64_t end) {
    Buffer<float> max(end - begin);
    for (int64_t e = 0; e < a.n; ++e) {
      const int64_t n = a.offsets[e + 1] - a.offsets[e];
      if (n == 0) continue;
      kernels.column_max(a.x, a.rows + a.offsets[e], n, begin, end, max.data());
      for (int64_t c = begin; c < end; ++c)
        insert_sorted(max.data()[c - begin], a.numbers[e], a.k, a.values + c * a.k,
                      a.examples + c * a.k);
    }
  });
}

}  // namespace tilefold::cpu
