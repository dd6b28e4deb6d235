// A group of queries in the two forms that kernels take: fp32 for scores and estimates, and int8
// codes with their bounds for the filter.
#pragma once
#include <vector>

#include "cpu/rows/table.h"

namespace tilefold::cpu {

struct Group {
  int n;
  std::vector<int64_t> queries;    // [n] their numbers
  std::vector<float> thresholds;   // [n] scores that k documents reach, or that answers must reach
  std::vector<float> wide;         // [n][dim]
  std::vector<double> norms;       // [n] rounded up; fp64, since fp32 rounds tiny norms down. This
                                   // and the rest are empty without a filter
  std::vector<int8_t> codes;       // tiles of query_tile: [bytes / 4][queries in tile][4]
  std::vector<QueryBound> bounds;  // [n]
};

// Thresholds are those before any document of this search is seen.
Group make_group(const SearchArgs& a, const SearchKernels& kernels, bool filter,
                 std::vector<int64_t> queries);

}  // namespace tilefold::cpu
