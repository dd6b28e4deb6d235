// The softmax loss of one query (or document) over its positives and the other candidates, and the
// gradients of its scores.
#pragma once
#include <vector>

namespace tilefold::cpu {

struct RowLoss {
  double loss;
  double shift;  // the gradient of another candidate's score s is e^(s - shift)
};

// The loss of a row without soft targets, as in ContrastiveArgs. `others` is the logsumexp over the
// other candidates; `scores` and `gradients` are those of the positives.
RowLoss positive_loss(bool per_positive, double others, const std::vector<double>& scores,
                      std::vector<double>& gradients);

// The KL divergence of the softmax from target probabilities of the positives, which sum to one.
RowLoss soft_target_loss(const double* targets, double others, const std::vector<double>& scores,
                         std::vector<double>& gradients);

}  // namespace tilefold::cpu
