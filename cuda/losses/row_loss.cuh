// The softmax loss of one query (or document) over its positives and the other candidates, and the
// gradients of its scores, by a block of threads: cpu/host/row_loss.cpp in parallel.
#pragma once
#include "cuda/losses/log_sum.cuh"

namespace tilefold::cuda {

struct RowLoss {
  double loss;
  double shift;  // the gradient of another candidate's score s is e^(s - shift)
};

// for_each(visit) calls visit(place, score) for this thread's share of the positives; `others` is
// the logsumexp over the other candidates, and set_gradient(place, gradient) gets the results.
template <class ForEach, class SetGradient>
__device__ RowLoss positive_loss(LogSumShared& shared, bool per_positive, double others,
                                 int64_t n_positives, ForEach for_each, SetGradient set_gradient) {
  LogSum mine;
  if (!per_positive) {
    for_each([&](int64_t, double score) { mine.add(score, 1); });
    const double positives = log_sum_block(shared, mine), all = log_add(others, positives);
    for_each([&](int64_t place, double score) {
      set_gradient(place, exp(score - all) - exp(score - positives));
    });
    return {all - positives, all};
  }
  // The mean over positives of log(others + e^score) - score. The mean of the inverse denominators
  // multiplies e^s of every other candidate.
  const double n = static_cast<double>(n_positives);
  double loss = 0;
  for_each([&](int64_t place, double score) {
    const double all = log_add(others, score);
    loss += (all - score) / n;
    set_gradient(place, -exp(others - all) / n);
    mine.add(-all, 1 / n);
  });
  const double inverse = log_sum_block(shared, mine);
  return {sum_block(shared.doubles, loss), -inverse};
}

// The KL divergence of the softmax from target(place), probabilities that sum to one.
template <class ForEach, class SetGradient, class Target>
__device__ RowLoss soft_target_loss(LogSumShared& shared, double others, ForEach for_each,
                                    SetGradient set_gradient, Target target) {
  LogSum mine;
  for_each([&](int64_t, double score) { mine.add(score, 1); });
  const double all = log_add(others, log_sum_block(shared, mine));
  double loss = 0;
  for_each([&](int64_t place, double score) {
    const double t = target(place);
    if (t > 0) loss += t * (log(t) - (score - all));
    set_gradient(place, exp(score - all) - t);
  });
  return {sum_block(shared.doubles, loss), all};
}

}  // namespace tilefold::cuda
