// The ops on activations as Python calls them. A request has the arguments of a call under their
// Python names.
#pragma once
#include "pulse.h"
#include "view.h"

namespace tilefold::ops {

// Updates statistics of columns with the listed rows of activations.
struct StatisticsRequest {
  View x, rows, count, mean, m2, least, most, thresholds, above, histogram;
  int num_threads;
};
void statistics(const StatisticsRequest& r, Pulse& pulse);

// Keeps the examples with the largest values of each column; offsets [n + 1] are into rows.
struct ExamplesRequest {
  View x, rows, offsets, numbers, values, examples;
  int num_threads;
};
void examples(const ExamplesRequest& r, Pulse& pulse);

// Adds products of columns to the lower triangle of sums [width, width].
struct SecondMomentRequest {
  View x, rows, sums;
  int num_threads;
};
void second_moment(const SecondMomentRequest& r, Pulse& pulse);

}  // namespace tilefold::ops
