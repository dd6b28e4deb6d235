// Sums of products of columns. Columns lie in panels as wide as a tile, [panel][row][columns],
// which serve as both factors of the product.
#include <algorithm>

#include "cpu/host/buffer.h"
#include "cpu/host/statistics.h"
#include "cpu/host/walk.h"
#include "cpu/rows/table.h"
#include "parallel.h"

namespace tilefold::cpu {
namespace {

// Rows of one product, whose sums are fp32; and rows whose products are added in an fp64 tile
// before the sums in memory are updated: 7,808 rows of 1,536 columns take 173 ms, and 196 ms if
// every product updates memory.
constexpr int64_t depth = 256, rows_per_update = 4 * depth;

class SecondMoment {
 public:
  SecondMoment(const SecondMomentArgs& a, const Row& row, int threads)
      : a_(a),
        row_(row),
        threads_(threads),
        width_(row.loss_fp32.columns),
        panels_(ceil_div(a.x.dim, width_)),
        packed_(panels_ * std::min(rows_per_update, a.n) * width_) {}

  void run() {
    for (int64_t first = 0; first < a_.n; first += rows_per_update) {
      const int64_t n = std::min(rows_per_update, a_.n - first);
      constexpr int64_t rows_per_task = 64;
      parallel_for(ceil_div(n, rows_per_task), threads_, [&](int64_t t) {
        pack(first, n, t * rows_per_task, std::min(n, (t + 1) * rows_per_task));
      });
      // The last panel has the most products and goes first.
      parallel_for(panels_, threads_, [&](int64_t t) { add_products(panels_ - 1 - t, n); });
    }
  }

 private:
  // Packs rows [begin, end) of the n rows from `first`.
  void pack(int64_t first, int64_t n, int64_t begin, int64_t end) {
    Buffer<float> wide(panels_ * width_);
    std::fill_n(wide.data(), panels_ * width_, 0.0f);
    for (int64_t r = begin; r < end; ++r) {
      row_.search.widen(a_.x, a_.rows[first + r], wide.data());
      for (int64_t p = 0; p < panels_; ++p)
        std::copy_n(wide.data() + p * width_, width_, packed_.data() + (p * n + r) * width_);
    }
  }

  // Adds the products of panel p with itself and the panels before it, over n packed rows.
  void add_products(int64_t p, int64_t n) {
    Buffer<float> tile(width_ * width_);
    Buffer<double> sum(width_ * width_);
    for (int64_t q = 0; q <= p; ++q) {
      std::fill_n(sum.data(), width_ * width_, 0.0);
      for (int64_t r = 0; r < n; r += depth) {
        row_.loss_fp32.multiply(
            {packed_.data() + (p * n + r) * width_, width_, 1, 1, 0, std::min(depth, n - r), width_,
             packed_.data() + (q * n + r) * width_, tile.data(), width_, width_, false});
        for (int64_t i = 0; i < width_ * width_; ++i)
          sum.data()[i] += static_cast<double>(tile.data()[i]);
      }
      add_tile(p, q, sum.data());
    }
  }

  // Adds a tile to the lower triangle in memory.
  void add_tile(int64_t p, int64_t q, const double* tile) {
    const int64_t dim = a_.x.dim;
    for (int64_t i = p * width_; i < std::min(dim, (p + 1) * width_); ++i)
      for (int64_t j = q * width_; j < std::min(i + 1, (q + 1) * width_); ++j)
        a_.sums[i * dim + j] += tile[(i - p * width_) * width_ + j - q * width_];
  }

  const SecondMomentArgs& a_;
  const Row& row_;
  const int threads_;
  const int64_t width_, panels_;
  Buffer<float> packed_;
};

}  // namespace

void second_moment(const SecondMomentArgs& a, int threads, Pulse&) {
  SecondMoment(a, active_row(), threads).run();
}

}  // namespace tilefold::cpu
