#include "cpu/host/row_loss.h"

#include <cmath>

#include "cpu/host/logsum.h"

namespace tilefold::cpu {
namespace {

double log_sum(const std::vector<double>& scores) {
  LogSum sum;
  for (const double s : scores) sum.add(s, 1);
  return sum.log();
}

// The mean over positives of log(others + e^score) - score.
RowLoss mean_positive_loss(double others, const std::vector<double>& scores,
                           std::vector<double>& gradients) {
  const double n = static_cast<double>(scores.size());
  double loss = 0;
  LogSum inverse;  // of the denominators, whose mean multiplies e^s of every other candidate
  for (size_t p = 0; p < scores.size(); ++p) {
    const double all = log_add(others, scores[p]);
    loss += (all - scores[p]) / n;
    gradients[p] = -std::exp(others - all) / n;
    inverse.add(-all, 1 / n);
  }
  return {loss, -inverse.log()};
}

}  // namespace

RowLoss positive_loss(bool per_positive, double others, const std::vector<double>& scores,
                      std::vector<double>& gradients) {
  gradients.resize(scores.size());
  if (per_positive) return mean_positive_loss(others, scores, gradients);
  const double positives = log_sum(scores), all = log_add(others, positives);
  for (size_t p = 0; p < scores.size(); ++p)
    gradients[p] = std::exp(scores[p] - all) - std::exp(scores[p] - positives);
  return {all - positives, all};
}

RowLoss soft_target_loss(const double* targets, double others, const std::vector<double>& scores,
                         std::vector<double>& gradients) {
  const double all = log_add(others, log_sum(scores));
  double loss = 0;
  gradients.resize(scores.size());
  for (size_t p = 0; p < scores.size(); ++p) {
    const double t = targets[p];
    if (t > 0) loss += t * (std::log(t) - (scores[p] - all));
    gradients[p] = std::exp(scores[p] - all) - t;
  }
  return {loss, all};
}

}  // namespace tilefold::cpu
