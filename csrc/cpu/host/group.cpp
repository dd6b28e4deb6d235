#include "cpu/host/group.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace tilefold::cpu {
namespace {

// An upper bound of the norm. The squares of fp32 numbers neither underflow nor overflow in fp64.
double norm_upper_bound(const float* x, int64_t dim) {
  double squares = 0;
  for (int64_t j = 0; j < dim; ++j) squares += static_cast<double>(x[j]) * x[j];
  return std::sqrt(squares) * (1 + 0x1p-20);
}

float initial_threshold(const SearchArgs& a, int64_t query) {
  const float min = a.min_score ? a.min_score[query] : -std::numeric_limits<float>::infinity();
  return std::max(min, a.scores[query * a.k + a.k - 1]);
}

}  // namespace

Group make_group(const SearchArgs& a, const SearchKernels& kernels, bool filter,
                 std::vector<int64_t> queries) {
  const int64_t dim = a.queries.dim, padded = padded_dim(dim);
  const int64_t bytes = kernels.packed_query_bytes(padded);
  const auto n = static_cast<int64_t>(queries.size());
  Group group;
  group.n = static_cast<int>(n);
  for (const int64_t query : queries) group.thresholds.push_back(initial_threshold(a, query));
  group.queries = std::move(queries);
  group.wide.resize(static_cast<size_t>(n * dim));
  if (filter) {
    group.norms.resize(static_cast<size_t>(n));
    group.codes.resize(static_cast<size_t>(n * bytes));
    group.bounds.resize(static_cast<size_t>(n));
  }
  std::vector<float> query(static_cast<size_t>(padded));
  for (int64_t q = 0; q < n; ++q) {
    kernels.widen(a.queries, group.queries[static_cast<size_t>(q)], query.data());
    std::copy_n(query.data(), dim, group.wide.data() + q * dim);
    if (!filter) continue;
    group.norms[static_cast<size_t>(q)] = norm_upper_bound(query.data(), dim);
    const int64_t tile = q / kernels.query_tile * kernels.query_tile;
    const int64_t in_tile = std::min<int64_t>(kernels.query_tile, n - tile);
    group.bounds[static_cast<size_t>(q)] =
        kernels.pack_query(query.data(), dim, a.packed, n, 4 * in_tile,
                           group.codes.data() + tile * bytes + 4 * (q - tile));
  }
  return group;
}

}  // namespace tilefold::cpu
