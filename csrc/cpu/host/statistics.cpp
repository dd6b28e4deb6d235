#include "cpu/host/statistics.h"

#include <algorithm>
#include <functional>

#include "cpu/host/buffer.h"
#include "parallel.h"
#include "cpu/host/walk.h"

namespace tilefold {
namespace {

// Rows of a product, whose sums are fp32; and of those that meet in an fp64 tile before the sums in
// memory are read and written: 7,808 rows of 1,536 columns take 173 ms, 196 where each product does.
constexpr int64_t depth = 256, together = 4 * depth;

// Columns [begin, end), for a thread each; fewer elements than waking them is worth stay together.
void over_columns(int64_t width, int64_t elements, int threads,
                  const std::function<void(int64_t begin, int64_t end)>& fold) {
  const int64_t strips = ceil_div(width, strip_columns);
  const int64_t parts = elements < 100000 ? 1 : std::min<int64_t>(strips, threads);
  parallel_for(parts, threads, [&](int64_t p) {
    fold(strips * p / parts * strip_columns,
         std::min(width, strips * (p + 1) / parts * strip_columns));
  });
}

// Where a value belongs among the k best of a column; they fall, and ties are in the order of numbers.
void enter(float value, int64_t number, int64_t k, float* values, int64_t* numbers) {
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

void statistics(const StatisticsArgs& a, const Kernels& row, int threads) {
  if (a.n == 0) return;
  over_columns(a.x.dim, a.n * a.x.dim, threads,
               [&](int64_t begin, int64_t end) { row.statistics.fold(a, begin, end); });
}

void examples(const ExamplesArgs& a, const Kernels& row, int threads) {
  over_columns(a.x.dim, a.offsets[a.n] * a.x.dim, threads, [&](int64_t begin, int64_t end) {
    Buffer<float> most(end - begin);
    for (int64_t e = 0; e < a.n; ++e) {
      const int64_t n = a.offsets[e + 1] - a.offsets[e];
      if (n == 0) continue;
      row.statistics.most(a.x, a.rows + a.offsets[e], n, begin, end, most.data());
      for (int64_t c = begin; c < end; ++c)
        enter(most.data()[c - begin], a.numbers[e], a.k, a.values + c * a.k, a.examples + c * a.k);
    }
  });
}

// Columns lie in panels as wide as a tile, [panel][row][columns], which serve as both factors.
void second_moment(const SecondMomentArgs& a, const Kernels& row, int threads) {
  const LossKernels<float>& k = row.loss_fp32;
  const int64_t width = k.columns, panels = ceil_div(a.x.dim, width), dim = a.x.dim;
  const int64_t most = std::min(together, a.n);
  Buffer<float> packed(panels * most * width);
  for (int64_t first = 0; first < a.n; first += together) {
    const int64_t n = std::min(together, a.n - first);
    parallel_for(ceil_div(n, 64), threads, [&](int64_t part) {
      Buffer<float> wide(panels * width);
      std::fill_n(wide.data(), panels * width, 0.0f);
      for (int64_t r = part * 64; r < std::min(n, (part + 1) * 64); ++r) {
        row.search.widen(a.x, a.rows[first + r], wide.data());
        for (int64_t p = 0; p < panels; ++p)
          std::copy_n(wide.data() + p * width, width, packed.data() + (p * n + r) * width);
      }
    });
    parallel_for(panels, threads, [&](int64_t task) {
      const int64_t p = panels - 1 - task;  // the longest first
      Buffer<float> tile(width * width);
      Buffer<double> sum(width * width);
      for (int64_t q = 0; q <= p; ++q) {
        std::fill_n(sum.data(), width * width, 0.0);
        for (int64_t r = 0; r < n; r += depth) {
          k.multiply({packed.data() + (p * n + r) * width, width, 1, 1, 0, std::min(depth, n - r),
                      width, packed.data() + (q * n + r) * width, tile.data(), width, width,
                      false});
          for (int64_t i = 0; i < width * width; ++i)
            sum.data()[i] += static_cast<double>(tile.data()[i]);
        }
        for (int64_t i = p * width; i < std::min(dim, (p + 1) * width); ++i)
          for (int64_t j = q * width; j < std::min(i + 1, (q + 1) * width); ++j)
            a.sums[i * dim + j] += sum.data()[(i - p * width) * width + j - q * width];
      }
    });
  }
}

}  // namespace tilefold
