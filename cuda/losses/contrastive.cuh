// Kernels of the contrastive loss over the scores of a block of queries with all documents. A block
// of threads takes a query, unless said otherwise.
#pragma once
#include "contract/losses.h"
#include "cuda/losses/row_loss.cuh"
#include "cuda/platform/shared.h"

namespace tilefold::cuda {

constexpr int loss_threads = 256;

template <class T>
struct LossState {
  int64_t first, rows;                    // queries of the block
  T* scores;                              // [rows, m]; later their gradients
  T* gates;                               // [rows, m] or null
  double* positive_scores;                // [positives], scaled
  double* positive_gradients;             // [positives]
  T *shifts, *weights;                    // [n]
  double *document_max, *document_sum;    // [m] logsumexp over the queries so far
  T *document_shifts, *document_weights;  // [m], or null
};

// scores *= sigmoid(gates), a thread per pair.
template <class T>
__global__ void __launch_bounds__(loss_threads) apply_gates(T* scores, T* gates, int64_t pairs) {
  const int64_t i = blockIdx.x * static_cast<int64_t>(loss_threads) + threadIdx.x;
  if (i >= pairs) return;
  const T gate = T(1) / (T(1) + exp(-gates[i]));
  gates[i] = gate;
  scores[i] *= gate;
}

template <class T>
__global__ void __launch_bounds__(loss_threads) scale_all(T* scores, int64_t pairs, T scale) {
  const int64_t i = blockIdx.x * static_cast<int64_t>(loss_threads) + threadIdx.x;
  if (i < pairs) scores[i] *= scale;
}

// Keeps the scores of positives, and takes them and excluded pairs from the other candidates.
template <class T>
__global__ void __launch_bounds__(loss_threads)
    mask_pairs(const __grid_constant__ ContrastiveArgs a, const __grid_constant__ LossState<T> s) {
  const int64_t query = s.first + blockIdx.x, m = a.documents.rows;
  const int64_t thread = threadIdx.x;
  T* const scores = s.scores + blockIdx.x * m;
  const auto for_each = [&](const Lists& lists, int64_t list, auto visit) {
    for (int64_t e = lists.offsets[list] + thread; e < lists.offsets[list + 1]; e += loss_threads)
      visit(e);
  };
  for_each(a.positives, query, [&](int64_t e) {
    s.positive_scores[e] = static_cast<double>(scores[a.positives.indices[e]]) * a.scale;
  });
  __syncthreads();
  for_each(a.positives, query, [&](int64_t e) { scores[a.positives.indices[e]] = -INFINITY; });
  if (a.excluded.offsets)
    for_each(a.excluded, query, [&](int64_t e) { scores[a.excluded.indices[e]] = -INFINITY; });
  if (!a.excluded_ids.groups) return;
  const Lists& ids = a.excluded_ids.ids;
  const int64_t group = a.excluded_ids.groups[query];
  const int64_t* const begin = ids.indices + ids.offsets[group];
  const int64_t n = ids.offsets[group + 1] - ids.offsets[group];
  for (int64_t d = thread; d < m; d += loss_threads) {
    const int64_t id = a.excluded_ids.document_ids[d];
    int64_t low = 0, high = n;
    while (low < high) {
      const int64_t middle = (low + high) / 2;
      if (begin[middle] < id)
        low = middle + 1;
      else
        high = middle;
    }
    if (low < n && begin[low] == id) scores[d] = -INFINITY;
  }
}

// The weight times the factor by which rounding the shift to T changes every e^(score - shift), so
// that the gradients of a row still sum to zero.
template <class T>
__device__ T corrected_weight(double weight, double shift) {
  return static_cast<T>(weight * exp(static_cast<double>(static_cast<T>(shift)) - shift));
}

// Scales scores, and computes losses of queries and gradients of their positives.
template <class T>
__global__ void __launch_bounds__(loss_threads)
    query_losses(const __grid_constant__ ContrastiveArgs a,
                 const __grid_constant__ LossState<T> s) {
  LogSumShared& shared = shared_memory<LogSumShared>();
  const int64_t query = s.first + blockIdx.x, m = a.documents.rows;
  T* const scores = s.scores + blockIdx.x * m;
  for (int64_t d = threadIdx.x; d < m; d += loss_threads) scores[d] *= static_cast<T>(a.scale);
  const LogSum mine =
      sum_exponentials<T>(threadIdx.x, m, loss_threads, [&](int64_t d) { return scores[d]; });
  const double others = log_sum_block(shared, mine);
  const int64_t begin = a.positives.offsets[query], end = a.positives.offsets[query + 1];
  const double weight = a.query_weights ? a.query_weights[query] * a.scale : 0;
  const auto for_each = [&](auto visit) {
    for (int64_t e = begin + threadIdx.x; e < end; e += loss_threads)
      visit(e, s.positive_scores[e]);
  };
  const auto set_gradient = [&](int64_t e, double gradient) {
    s.positive_gradients[e] = weight * gradient;
  };
  const RowLoss row =
      a.soft_targets
          ? soft_target_loss(shared, others, for_each, set_gradient,
                             [&](int64_t e) { return a.soft_targets[e]; })
          : positive_loss(shared, a.per_positive, others, end - begin, for_each, set_gradient);
  if (threadIdx.x != 0) return;
  a.query_losses[query] = row.loss;
  s.shifts[query] = static_cast<T>(row.shift);
  s.weights[query] = corrected_weight<T>(weight, row.shift);
}

// Adds the block's part of each document's logsumexp, a thread per document.
template <class T>
__global__ void __launch_bounds__(loss_threads)
    add_to_documents(const __grid_constant__ LossState<T> s, int64_t m) {
  const int64_t d = blockIdx.x * static_cast<int64_t>(loss_threads) + threadIdx.x;
  if (d >= m) return;
  const LogSum block =
      sum_exponentials<T>(0, s.rows, 1, [&](int64_t q) { return s.scores[q * m + d]; });
  LogSum all = {s.document_max[d], s.document_sum[d]};
  all.add(block.max, block.sum);
  s.document_max[d] = all.max;
  s.document_sum[d] = all.sum;
}

template <class T>
__global__ void __launch_bounds__(loss_threads)
    clear_documents(const __grid_constant__ LossState<T> s, int64_t m) {
  const int64_t d = blockIdx.x * static_cast<int64_t>(loss_threads) + threadIdx.x;
  if (d >= m) return;
  s.document_max[d] = -HUGE_VAL;
  s.document_sum[d] = 0;
}

struct DocumentLossShared {
  LogSumShared log_sums;
  ReduceShared<int64_t> counts;
};

// Losses of documents that are positives, and their part of the gradients of positives. A block of
// threads takes a document and looks through all lists for it.
template <class T>
__global__ void __launch_bounds__(loss_threads)
    document_losses(const __grid_constant__ ContrastiveArgs a,
                    const __grid_constant__ LossState<T> s) {
  DocumentLossShared& shared = shared_memory<DocumentLossShared>();
  const int64_t d = blockIdx.x;
  const auto for_each = [&](auto visit) {
    for (int64_t e = threadIdx.x; e < a.positives.size; e += loss_threads)
      if (a.positives.indices[e] == d) visit(e, s.positive_scores[e]);
  };
  int64_t mine = 0;
  for_each([&](int64_t, double) { ++mine; });
  const int64_t n = sum_block(shared.counts, mine);
  const double weight = a.document_weights ? a.document_weights[d] * a.scale : 0;
  RowLoss row = {0, HUGE_VAL};
  if (n > 0)
    row = positive_loss(
        shared.log_sums, a.per_positive, LogSum{s.document_max[d], s.document_sum[d]}.log_of_sum(),
        n, for_each,
        [&](int64_t e, double gradient) { s.positive_gradients[e] += weight * gradient; });
  if (threadIdx.x != 0) return;
  a.document_losses[d] = row.loss;
  s.document_shifts[d] = static_cast<T>(row.shift);
  s.document_weights[d] = n > 0 ? corrected_weight<T>(weight, row.shift) : T(0);
}

// Replaces scores by their gradients, a thread per pair.
template <class T>
__global__ void __launch_bounds__(loss_threads)
    differentiate(const __grid_constant__ LossState<T> s, int64_t m) {
  const int64_t d = blockIdx.x * static_cast<int64_t>(loss_threads) + threadIdx.x;
  const int64_t q = blockIdx.y;
  if (d >= m) return;
  T& score = s.scores[q * m + d];
  T gradient = s.weights[s.first + q] * exp(score - s.shifts[s.first + q]);
  if (s.document_shifts) gradient += s.document_weights[d] * exp(score - s.document_shifts[d]);
  score = gradient;
}

// Enters the gradients of positives, and multiplies all by the gates.
template <class T>
__global__ void __launch_bounds__(loss_threads)
    enter_positives(const __grid_constant__ ContrastiveArgs a,
                    const __grid_constant__ LossState<T> s) {
  const int64_t query = s.first + blockIdx.x, m = a.documents.rows;
  T* const gradients = s.scores + blockIdx.x * m;
  const int64_t begin = a.positives.offsets[query], end = a.positives.offsets[query + 1];
  for (int64_t e = begin + threadIdx.x; e < end; e += loss_threads)
    gradients[a.positives.indices[e]] = static_cast<T>(s.positive_gradients[e]);
  if (!s.gates) return;
  __syncthreads();
  for (int64_t d = threadIdx.x; d < m; d += loss_threads)
    gradients[d] *= s.gates[blockIdx.x * m + d];
}

}  // namespace tilefold::cuda
