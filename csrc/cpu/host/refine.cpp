#include "cpu/host/refine.h"

#include <cmath>
#include <cstddef>

#include "cpu/host/select.h"

namespace tilefold::cpu {

// The error bound that EstimateArgs states, computed in fp64: in fp32 the product of a tiny and a
// huge norm underflows on the way. The filter has an upper bound of the norm of what a document is
// beside its part along the direction. The last term covers products of elements that underflow in
// fp32, at most dim 2^-150 <= 2^-135.
float Refiner::estimate_error(int q, int64_t row) const {
  const float* bounds = a_.packed.bounds + row / block_rows * block_bounds + row % block_rows;
  const double along = std::fabs(static_cast<double>(bounds[3 * block_rows]));
  const double norm = bounds[block_rows] + along * (1 + a_.packed.direction_defect);
  const double relative = static_cast<double>(a_.documents.dim + 64) * 0x1p-24;
  const double bound = relative * group_.norms[static_cast<std::size_t>(q)] * norm + 0x1p-126;
  return static_cast<float>(bound * (1 + 0x1p-20));
}

void Refiner::estimate(int q, Candidate* candidates, int64_t n, float min_midpoint) {
  rows_.clear();
  targets_.clear();
  for (Candidate* c = candidates; c != candidates + n; ++c) {
    if (c->stage != Stage::filtered || !(midpoint(*c) >= min_midpoint)) continue;
    rows_.push_back(c->row);
    targets_.push_back(c);
  }
  if (rows_.empty()) return;
  values_.resize(rows_.size());
  kernels_.estimate({group_.wide.data() + q * a_.documents.dim, a_.documents, rows_.data(),
                     static_cast<int64_t>(rows_.size()), values_.data()});
  for (std::size_t i = 0; i < rows_.size(); ++i) {
    Candidate& c = *targets_[i];
    c.stage = Stage::estimated;
    const float width = estimate_error(q, rows_[i]);
    const float lower = values_[i] - width, upper = values_[i] + width;
    if (!(lower > -3e38f && upper < 3e38f)) continue;  // overflow: keep the filter's bounds
    if (lower > c.lower) c.lower = lower;
    if (upper < c.upper) c.upper = upper;
  }
}

int64_t Refiner::score(int q, Candidate* candidates, int64_t n) {
  rows_.clear();
  targets_.clear();
  for (Candidate* c = candidates; c != candidates + n; ++c) {
    if (c->stage == Stage::scored) continue;
    rows_.push_back(c->row);
    targets_.push_back(c);
  }
  const auto open = static_cast<int64_t>(rows_.size());
  if (open == 0) return 0;
  values_.resize(rows_.size());
  kernels_.score({group_.wide.data() + q * a_.documents.dim, a_.documents, rows_.data(), 0, open,
                  values_.data()});
  for (std::size_t i = 0; i < rows_.size(); ++i) {
    Candidate& c = *targets_[i];
    sound_ = sound_ && c.lower <= values_[i] && values_[i] <= c.upper;
    c = {ordered(values_[i]), rows_[i]};
  }
  return open;
}

void Refiner::score_rows(int q, int64_t first, int64_t n, float* scores) const {
  kernels_.score(
      {group_.wide.data() + q * a_.documents.dim, a_.documents, nullptr, first, n, scores});
}

}  // namespace tilefold::cpu
