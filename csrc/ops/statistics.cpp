#include "ops/statistics.h"

#include "check.h"
#include "kernels.h"
#include "ops/arguments.h"

namespace tilefold::ops {
namespace {

// Numbers of rows are factors in fp64.
constexpr int64_t max_count = int64_t{1} << 53;

Matrix read_activations(const char* op, const View& x) {
  const Matrix m = x.matrix();
  check_type(m.dtype != Dtype::i8, op, ": x must be float32, bfloat16 or float16, got int8");
  return m;
}

// Row numbers of activations of n_rows rows.
Places read_rows(const char* op, const View& rows, int64_t n_rows) {
  Places r(rows, rows.rows());
  for (int64_t i = 0; host_readable(rows.device()) && i < rows.rows(); ++i)
    check(r[i] >= 0 && r[i] < n_rows, op, ": rows must be 0 to ", n_rows - 1, ", got ", r[i]);
  return r;
}

}  // namespace

void statistics(const StatisticsRequest& r, Pulse& pulse) {
  const Op<StatisticsArgs> run = find_op(&Implementation::statistics, "statistics", r.x);
  StatisticsArgs a = {};
  a.device = r.x.device();
  a.x = read_activations("statistics", r.x);
  const int64_t width = a.x.dim;
  const Places rows = read_rows("statistics", r.rows, a.x.rows);
  a.rows = rows.data();
  a.n = r.rows.rows();
  a.count = r.count.write<int64_t>(1);
  if (host_readable(a.device))
    check(*a.count >= 0 && *a.count <= max_count, "statistics: count must be 0 to 2^53, got ",
          *a.count);
  a.mean = r.mean.write<double>(width);
  a.m2 = r.m2.write<double>(width);
  a.min = r.least.write<float>(width);
  a.max = r.most.write<float>(width);
  a.n_thresholds = r.thresholds.rows();
  a.thresholds = r.thresholds.read<float>(a.n_thresholds);
  a.above = r.above.write<int64_t>(saturated_product(a.n_thresholds, width));
  a.histogram = r.histogram.write_if_given<int64_t>(saturated_product(width, histogram_bins));
  run(a, thread_count("statistics", r.num_threads), pulse);
}

void examples(const ExamplesRequest& r, Pulse& pulse) {
  const Op<ExamplesArgs> run = find_op(&Implementation::examples, "examples", r.x);
  ExamplesArgs a = {};
  a.device = r.x.device();
  a.x = read_activations("examples", r.x);
  const Places rows = read_rows("examples", r.rows, a.x.rows);
  a.rows = rows.data();
  a.n_rows = r.rows.rows();
  a.n = r.numbers.rows();
  a.numbers = r.numbers.read<int64_t>(a.n);
  const Places offsets(r.offsets, a.n + 1);
  check(offsets.given(), "examples: offsets must be given");
  a.offsets = offsets.data();
  if (host_readable(a.device)) check_offsets("examples: rows", a.offsets, a.n, a.n_rows);
  const int64_t size = r.values.size();
  check(a.x.dim > 0 && size % a.x.dim == 0, "examples: values must be [width, k], of width ",
        a.x.dim, ", got ", size, " elements");
  a.k = size / a.x.dim;
  check(a.k >= 1, "examples: k must be at least 1, got 0");
  a.values = r.values.write<float>(size);
  a.examples = r.examples.write<int64_t>(size);
  run(a, thread_count("examples", r.num_threads), pulse);
}

void second_moment(const SecondMomentRequest& r, Pulse& pulse) {
  const Op<SecondMomentArgs> run = find_op(&Implementation::second_moment, "second_moment", r.x);
  SecondMomentArgs a = {};
  a.device = r.x.device();
  a.x = read_activations("second_moment", r.x);
  const Places rows = read_rows("second_moment", r.rows, a.x.rows);
  a.rows = rows.data();
  a.n = r.rows.rows();
  a.sums = r.sums.write<double>(saturated_product(a.x.dim, a.x.dim));
  run(a, thread_count("second_moment", r.num_threads), pulse);
}

}  // namespace tilefold::ops
