// Binds the ops on activations.
#include "ops/statistics.h"

#include "bind/bind.h"
#include "bind/call.h"
#include "contract/statistics.h"

namespace tilefold::bind {
namespace {

void define_statistics_op(py::module_& m) {
  using Request = ops::StatisticsRequest;
  define<Request>(
      m, "statistics", "Updates statistics of columns with rows of activations [rows, width].",
      &ops::statistics,
      positional(array(FIELD(x)), array(FIELD(rows)), array(FIELD(count)), array(FIELD(mean)),
                 array(FIELD(m2)), array(FIELD(least)), array(FIELD(most)),
                 array(FIELD(thresholds)), array(FIELD(above)), optional_array(FIELD(histogram))),
      keywords(value(FIELD(num_threads), 0)));
}

void define_examples(py::module_& m) {
  using Request = ops::ExamplesRequest;
  define<Request>(m, "examples", "Keeps the examples with the largest values of each column.",
                  &ops::examples,
                  positional(array(FIELD(x)), array(FIELD(rows)), array(FIELD(offsets)),
                             array(FIELD(numbers)), array(FIELD(values)), array(FIELD(examples))),
                  keywords(value(FIELD(num_threads), 0)));
}

void define_second_moment(py::module_& m) {
  using Request = ops::SecondMomentRequest;
  define<Request>(
      m, "second_moment", "Adds products of columns to the lower triangle of sums [width, width].",
      &ops::second_moment, positional(array(FIELD(x)), array(FIELD(rows)), array(FIELD(sums))),
      keywords(value(FIELD(num_threads), 0)));
}

}  // namespace

void define_statistics(py::module_& m) {
  m.attr("BINS_PER_OCTAVE") = bins_per_octave;
  m.attr("LEAST_OCTAVE") = min_octave;
  m.attr("OCTAVES") = octaves;
  define_statistics_op(m);
  define_examples(m);
  define_second_moment(m);
}

}  // namespace tilefold::bind
