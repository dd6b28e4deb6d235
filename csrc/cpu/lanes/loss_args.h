// Arguments of the loss kernels. T is fp32, or fp64 for fp64 inputs. The scores of a block of
// queries lie in panels of as many queries as a tile has columns: [queries /
// columns][documents][columns].
#pragma once
#include <cstdint>

#include "contract/matrix.h"

namespace tilefold::cpu {

// c (+)= a b for `columns` columns. Row i of a has element a[i * a_row + o * a_outer + j * a_inner]
// at inner position (o, j).
template <class T>
struct ProductArgs {
  const T* a;
  int64_t rows, a_row;
  int64_t outer, a_outer;
  int64_t inner, a_inner;
  const T* b;  // [outer * inner][tile columns]
  T* c;
  int64_t c_row, columns;
  bool accumulate;
};

// The same product for bf16: exact products of pairs along the inner dimension, summed in fp32. Row
// i of a has pair j at a[i * a_row + j * a_pair]; if `inner` is odd, the last pair has one element.
struct PairProductArgs {
  const Bfloat* a;
  int64_t rows, a_row;
  int64_t inner, a_pair;
  const Bfloat* b;  // [inner / 2, rounded up][tile columns][2]
  float* c;
  int64_t c_row, columns;
  bool accumulate;
};

// Reduces one panel's scores for some documents to the maximum and the sum of e^(score - maximum).
template <class T>
struct LogSumExpArgs {
  T* scores;  // [n_documents][tile columns]
  int64_t n_documents;
  T scale;
  T* max;  // for each query [tile columns], or for each document [n_documents]
  T* sum;  // likewise
};

// Replaces one panel's scores by their gradients, weight * e^(score - shift) over queries plus the
// same over documents.
template <class T>
struct SoftmaxGradientArgs {
  T* scores;  // [n_documents][tile columns]
  int64_t n_documents;
  const T *query_shifts, *query_weights;        // [tile columns]
  const T *document_shifts, *document_weights;  // [n_documents], or null
};

// One panel's scores for some documents and the gates that multiply them.
template <class T>
struct GateArgs {
  T* scores;  // [n_documents][tile columns]
  T* gates;   // likewise
  int64_t n_documents;
};

// One panel of each view for some documents. P_v = e^(score - shift) * factor, where the factor
// corrects the rounding of the shift to T. The target M is one of the P_v or their mean. Logarithms
// of P_v omit the factor's logarithm, except within a mean.
template <class T>
struct MixtureArgs {
  T* const* scores;  // [views] of [n_documents][tile columns]
  int n_views;
  int64_t n_documents;
  int reference;              // the view whose distribution is M; -1: M is the mean over views
  bool mixture_first;         // KL(M || P_v), else KL(P_v || M)
  bool sparse_target;         // M is zero for most documents, and its gradient is added elsewhere
  const T *shifts, *factors;  // [views][tile columns]
  const T* weights;           // [views][tile columns] of gradients
  T* divergences;             // [views][tile columns]
  T* variances;               // [tile columns] of P_v over views, summed over documents
};

}  // namespace tilefold::cpu
