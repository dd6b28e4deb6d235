// Contracts of the losses over all pairs of queries and documents: contrastive and divergence; and
// of max_magnitude, by which their inputs are checked.
#pragma once
#include <cstdint>

#include "contract/device.h"
#include "contract/matrix.h"

namespace tilefold {

// Documents excluded for query i by id: those whose id is among the ids of the query's group.
struct IdExclusion {
  const int64_t* groups;        // [n] group of each query, or null: nothing is excluded
  Lists ids;                    // ids of each group
  const int64_t* document_ids;  // [m]
};

// The contrastive loss. Query i has positives P, other candidates C and scores s = scale <q, d>:
//   per_positive    mean over p in P of log(sum over C of e^s + e^(s_p)) - s_p
//   otherwise       log(sum over C and P of e^s) - log(sum over P of e^s)
// The symmetric form adds the same loss for every document that is a positive, over the queries.
struct ContrastiveArgs {
  Device device;
  Matrix queries, documents;
  Matrix gate_queries,
      gate_documents;  // scores are multiplied by sigmoid(gate scores); or null data
  double scale;
  bool per_positive;
  Lists positives;              // at least one for every query
  const double* soft_targets;   // target probability of each positive, instead of the forms above;
                                // or null
  Lists excluded;               // positives among them stay positives
  IdExclusion excluded_ids;     // positives among them stay positives
  const double* query_weights;  // [n] weight of each query's loss; null: no gradients
  const double* document_weights;  // [m] weight of each document's loss; null unless symmetric
  double* query_losses;            // [n]
  double* document_losses;  // [m], 0 for a document that is no positive; null unless symmetric
  void* grad_queries;       // [n, dim] in fp32, or in fp64 for fp64 inputs; may be null
  void* grad_documents;     // [m, dim] likewise

  bool symmetric() const { return document_losses; }
  bool gated() const { return gate_queries.data; }
};

// Queries and documents in one of several views of a batch. Dimensions may differ between views.
struct ScoreView {
  Matrix queries, documents;
  double scale;
  void* grad_queries;    // [n, dim] as in ContrastiveArgs; may be null
  void* grad_documents;  // [m, dim] likewise; views with the same documents may share it
};

// Divergences between softmax distributions. View v gives query i the distribution P_v = softmax
// over documents of scale <q, d>. Each P_v is compared with a target M, which is treated as a
// constant: KL(M || P_v) or KL(P_v || M).
struct DivergenceArgs {
  Device device;
  const ScoreView* views;  // in host memory
  int n_views;
  int reference;       // the view whose distribution is M; -1: M is the mean over views
  bool mixture_first;  // KL(M || P_v)
  Lists excluded;      // documents excluded for each query
  Lists listed;        // M is restricted to these documents and normalized; null: to all documents,
                       // which KL(P_v || M) requires
  const double* weights;  // [views, n] weight of each divergence; null: no gradients
  double* divergences;    // [views, n]
  double* masses;         // [n] probability of the listed documents under M before normalization
  double* variances;  // [n] variance of P_v over views, summed over documents; 0 with a reference
};

// The largest magnitude in a matrix, and the first row that has a NaN or an infinity.
struct MagnitudeArgs {
  Device device;
  Matrix x;
  double* magnitude;       // in host memory: over the rows that are finite
  int64_t* nonfinite_row;  // in host memory: -1 if all are finite
};

}  // namespace tilefold
