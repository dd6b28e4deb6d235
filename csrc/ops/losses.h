// The losses over all pairs of queries and documents, as Python calls them. A request has the
// arguments of a call under their Python names.
#pragma once
#include <string>
#include <vector>

#include "pulse.h"
#include "view.h"

namespace tilefold::ops {

// Contrastive losses of queries [n], of documents [m] in the symmetric form, and the gradients of
// their weighted sum if weights and gradients are given. Gradients are fp32, or fp64 for fp64
// inputs.
struct ContrastiveRequest {
  View queries, documents, positive_offsets, positives, query_losses;
  double scale;
  bool each;
  View soft_targets, exclude_offsets, excluded;
  View query_weights, document_weights, document_losses;
  View grad_queries, grad_documents, gate_queries, gate_documents;
  View groups, group_offsets, group_ids, document_ids;
  int num_threads;
};
void contrastive(const ContrastiveRequest& r, Pulse& pulse);

// One view of a batch; its gradients may be absent.
struct ScoreViewRequest {
  View queries, documents, grad_queries, grad_documents;
  double scale;
  std::string name;  // for messages, such as " of the teacher"
};

// Divergences [views, n] between the softmax distributions of several views and a target, and the
// gradients of their weighted sum.
struct DivergenceRequest {
  std::string op;  // for messages
  std::vector<ScoreViewRequest> views;
  View divergences, masses, variances;
  int reference;
  bool mixture_first;
  View exclude_offsets, excluded, listed_offsets, listed, weights;
  int num_threads;
};
void divergence(const DivergenceRequest& r, Pulse& pulse);

}  // namespace tilefold::ops
