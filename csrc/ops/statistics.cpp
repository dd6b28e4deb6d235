// Host half of the ops on activations.
#include <string>

#include "ops/arguments.h"
#include "check.h"
#include "cpu/rows/table.h"
#include "ops/ops.h"
#include "cpu/host/statistics.h"

namespace tilefold::ops {
namespace {

Matrix activations(const char* op, const View& x) {
  const Matrix m = x.matrix();
  check_type(m.dtype != Dtype::i8, op, ": x must be float32, bfloat16 or float16, got int8");
  return m;
}

const int64_t* rows_of(const char* op, const View& rows, int64_t of) {
  const int64_t* r = rows.read<int64_t>(rows.rows());
  for (int64_t i = 0; i < rows.rows(); ++i)
    check(r[i] >= 0 && r[i] < of, op, ": rows must be 0 to ", of - 1, ", got ", r[i]);
  return r;
}

}  // namespace

void statistics(const StatisticsViews& v, int threads) {
  StatisticsArgs a{};
  a.x = activations("statistics", v.x);
  const int64_t width = a.x.dim;
  a.rows = rows_of("statistics", v.rows, a.x.rows);
  a.n = v.rows.rows();
  int64_t* count = v.count.write<int64_t>(1);
  check(*count >= 0, "statistics: count must be at least 0, got ", *count);
  a.before = *count;
  a.mean = v.mean.write<double>(width);
  a.m2 = v.m2.write<double>(width);
  a.least = v.least.write<float>(width);
  a.most = v.most.write<float>(width);
  a.n_thresholds = v.thresholds.rows();
  a.thresholds = v.thresholds.read<float>(a.n_thresholds);
  a.above = v.above.write<int64_t>(a.n_thresholds * width);
  a.histogram = v.histogram.write_if_given<int64_t>(width * histogram_bins);
  tilefold::statistics(a, active_row(), threads_of("statistics", threads));
  *count += a.n;
}

void examples(const ExamplesViews& v, int threads) {
  ExamplesArgs a{};
  a.x = activations("examples", v.x);
  a.rows = rows_of("examples", v.rows, a.x.rows);
  a.n = v.numbers.rows();
  a.numbers = v.numbers.read<int64_t>(a.n);
  a.offsets = v.offsets.read<int64_t>(a.n + 1);
  check_offsets("examples: rows", a.offsets, a.n, v.rows.rows());
  const int64_t size = v.values.size();
  check(a.x.dim > 0 && size % a.x.dim == 0, "examples: values must be [width, k], of width ",
        a.x.dim, ", got ", size, " elements");
  a.k = size / a.x.dim;
  check(a.k >= 1, "examples: k must be at least 1, got 0");
  a.values = v.values.write<float>(size);
  a.examples = v.examples.write<int64_t>(size);
  tilefold::examples(a, active_row(), threads_of("examples", threads));
}

void second_moment(const View& x, const View& rows, const View& sums, int threads) {
  SecondMomentArgs a{};
  a.x = activations("second_moment", x);
  a.rows = rows_of("second_moment", rows, a.x.rows);
  a.n = rows.rows();
  a.sums = sums.write<double>(a.x.dim * a.x.dim);
  tilefold::second_moment(a, active_row(), threads_of("second_moment", threads));
}

}  // namespace tilefold::ops
