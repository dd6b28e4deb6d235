// Kernels of the divergences between views, over the scores of a block of queries with all documents
// in every view. A block of threads takes a query, unless said otherwise.
#pragma once
#include "contract/losses.h"
#include "cuda/losses/contrastive.cuh"
#include "cuda/losses/log_sum.cuh"

namespace tilefold::cuda {

constexpr int max_views = 16;

template <class T>
struct ViewState {
  int64_t first, rows, n, m;  // queries of the block, and all
  int n_views, reference;
  bool mixture_first;
  T* scores[max_views];  // [rows, m]; later their gradients
  double scales[max_views];
  // [views, block]. P_v = e^(score - shift) * factor, where the factor corrects the rounding of the
  // shift to T. `corrected` divergences are those that gradients subtract from log ratios.
  T *shifts, *factors, *weights, *corrected;
  double* shift_errors;  // likewise
  double* listed;        // [listed, views] first log P_v, then target probabilities; or null
  int64_t block;

  __device__ int64_t at(int v, int64_t q) const { return v * block + q; }
};

// A distribution's value at one document.
template <class T>
struct Probability {
  T value, log;
};

// Smaller probabilities are treated as 0, since 0 times their logarithm, -inf, would be NaN.
template <class T>
constexpr T min_normal = sizeof(T) == 4 ? T(0x1p-126) : T(0x1p-1022);

template <class T>
__device__ Probability<T> softmax(const ViewState<T>& s, int v, int64_t q, int64_t d) {
  const T log = s.scores[v][q * s.m + d] - s.shifts[s.at(v, q)];
  return {exp(log) * s.factors[s.at(v, q)], log};
}

template <class T>
__device__ Probability<T> mixture(const ViewState<T>& s, int64_t q, int64_t d) {
  if (s.reference >= 0) return softmax(s, s.reference, q, d);
  T sum = 0;
  for (int v = 0; v < s.n_views; ++v) sum += softmax(s, v, q, d).value;
  const T n = static_cast<T>(s.n_views), smallest = min_normal<T>;
  return {sum / n, log(sum < smallest ? smallest : sum) - log(n)};
}

// Scales scores, excludes pairs, and computes the softmax of a query in every view.
template <class T>
__global__ void __launch_bounds__(loss_threads)
    normalize_views(const __grid_constant__ DivergenceArgs a,
                    const __grid_constant__ ViewState<T> s) {
  LogSumShared& shared = shared_memory<LogSumShared>();
  const int64_t q = blockIdx.x, query = s.first + q, thread = threadIdx.x;
  for (int v = 0; v < s.n_views; ++v) {
    T* const scores = s.scores[v] + q * s.m;
    if (a.excluded.offsets)
      for (int64_t e = a.excluded.offsets[query] + thread; e < a.excluded.offsets[query + 1];
           e += loss_threads)
        scores[a.excluded.indices[e]] = -INFINITY;
    __syncthreads();
    for (int64_t d = thread; d < s.m; d += loss_threads) scores[d] *= static_cast<T>(s.scales[v]);
    const LogSum mine =
        sum_exponentials<T>(thread, s.m, loss_threads, [&](int64_t d) { return scores[d]; });
    const double log = log_sum_block(shared, mine);  // a barrier: all scores are scaled
    const bool some = !(log == -HUGE_VAL);
    const T shift = some ? static_cast<T>(log) : T(INFINITY);
    const double error = some ? static_cast<double>(shift) - log : 0;
    if (s.listed && some)
      for (int64_t e = a.listed.offsets[query] + thread; e < a.listed.offsets[query + 1];
           e += loss_threads)
        s.listed[e * s.n_views + v] = static_cast<double>(scores[a.listed.indices[e]]) - log;
    if (s.listed && !some)
      for (int64_t e = a.listed.offsets[query] + thread; e < a.listed.offsets[query + 1];
           e += loss_threads)
        s.listed[e * s.n_views + v] = -HUGE_VAL;
    if (thread != 0) continue;
    s.shifts[s.at(v, q)] = shift;
    s.shift_errors[s.at(v, q)] = error;
    s.factors[s.at(v, q)] = static_cast<T>(exp(error));
  }
}

// The error of log P_v - log M, from the rounding of shifts.
template <class T>
__device__ double log_ratio_error(const ViewState<T>& s, int v, int64_t q) {
  return s.shift_errors[s.at(v, q)] - (s.reference < 0 ? 0 : s.shift_errors[s.at(s.reference, q)]);
}

// The divergence of view v over all documents, and the variance of all views.
template <class T>
__device__ double sum_divergence(LogSumShared& shared, const ViewState<T>& s, int v, int64_t q,
                                 double& variance) {
  const T smallest = min_normal<T>;
  double sum = 0;
  variance = 0;
  for (int64_t d = threadIdx.x; d < s.m; d += loss_threads) {
    const Probability<T> m = mixture(s, q, d), p = softmax(s, v, q, d);
    const T weight = s.mixture_first ? m.value : p.value;
    const T ratio = s.mixture_first ? m.log - p.log : p.log - m.log;
    if (!(weight < smallest)) sum += static_cast<double>(weight * ratio);
    const T deviation = p.value - m.value;
    if (s.reference < 0) variance += static_cast<double>(deviation * deviation);
  }
  variance = sum_block(shared.doubles, variance) / s.n_views;
  return sum_block(shared.doubles, sum);
}

// log M of a listed document before normalization.
template <class T>
__device__ double log_listed(const ViewState<T>& s, int64_t e) {
  LogSum sum;
  for (int v = 0; v < s.n_views; ++v)
    if (s.reference < 0 || s.reference == v) sum.add(s.listed[e * s.n_views + v], 1);
  return sum.log_of_sum() - (s.reference < 0 ? log(static_cast<double>(s.n_views)) : 0);
}

// The divergences from a target of the listed documents alone, whose probabilities take the place
// of log P_v. Returns false if the listed documents have no mass.
template <class T>
__device__ bool divergences_of_listed(LogSumShared& shared, const DivergenceArgs& a,
                                      const ViewState<T>& s, int64_t query) {
  const int64_t begin = a.listed.offsets[query] + threadIdx.x, end = a.listed.offsets[query + 1];
  LogSum mine;
  for (int64_t e = begin; e < end; e += loss_threads) mine.add(log_listed(s, e), 1);
  const double mass = log_sum_block(shared, mine);
  const bool has_mass = !(mass == -HUGE_VAL);
  if (threadIdx.x == 0) a.masses[query] = has_mass ? exp(mass) : 0;
  for (int v = 0; v < s.n_views; ++v) {
    double sum = 0;
    for (int64_t e = begin; e < end; e += loss_threads) {
      const double log = log_listed(s, e) - mass, target = has_mass ? exp(log) : 0;
      if (target > 0) sum += target * (log - s.listed[e * s.n_views + v]);
    }
    sum = sum_block(shared.doubles, sum);
    if (threadIdx.x == 0) a.divergences[v * s.n + query] = sum;
  }
  for (int64_t e = begin; e < end; e += loss_threads) {
    const double target = has_mass ? exp(log_listed(s, e) - mass) : 0;
    for (int v = 0; v < s.n_views; ++v) s.listed[e * s.n_views + v] = target;
  }
  return has_mass;
}

template <class T>
__global__ void __launch_bounds__(loss_threads, 2)
    compute_divergences(const __grid_constant__ DivergenceArgs a,
                        const __grid_constant__ ViewState<T> s) {
  LogSumShared& shared = shared_memory<LogSumShared>();
  const int64_t q = blockIdx.x, query = s.first + q;
  const bool mine = threadIdx.x == 0;
  bool has_mass = !(s.shifts[s.at(0, q)] == T(INFINITY));
  double variances = 0;
  for (int v = 0; v < s.n_views; ++v) {
    double variance;
    double sum = sum_divergence(shared, s, v, q, variance);
    variances += variance;
    if (!mine || s.listed) continue;
    const double error = log_ratio_error(s, v, q);
    sum += s.mixture_first ? -error : error;
    a.divergences[v * s.n + query] = !has_mass || sum < 0 ? 0 : sum;  // rounding may leave less
  }
  if (mine) a.variances[query] = s.reference < 0 ? variances : 0;
  if (s.listed)
    has_mass = divergences_of_listed(shared, a, s, query);
  else if (mine)
    a.masses[query] = has_mass ? 1 : 0;
  if (!mine) return;
  for (int v = 0; v < s.n_views; ++v) {
    s.corrected[s.at(v, q)] =
        static_cast<T>(a.divergences[v * s.n + query] - log_ratio_error(s, v, q));
    const double weight = a.weights && has_mass ? a.weights[v * s.n + query] : 0;
    s.weights[s.at(v, q)] = static_cast<T>(weight * s.scales[v]);
  }
}

// Replaces scores by the gradients of the weighted divergences, a thread per pair.
template <class T>
__global__ void __launch_bounds__(loss_threads)
    differentiate_views(const __grid_constant__ ViewState<T> s) {
  const int64_t d = blockIdx.x * static_cast<int64_t>(loss_threads) + threadIdx.x;
  const int64_t q = blockIdx.y;
  if (d >= s.m) return;
  const Probability<T> m = mixture(s, q, d);
  const T smallest = min_normal<T>;
  for (int v = 0; v < s.n_views; ++v) {
    const Probability<T> p = softmax(s, v, q, d);
    T gradient = 0;
    if (s.mixture_first)
      gradient = s.listed ? p.value : p.value - m.value;
    else if (!(p.value < smallest))
      gradient = p.value * (p.log - m.log - s.corrected[s.at(v, q)]);
    s.scores[v][q * s.m + d] = s.weights[s.at(v, q)] * gradient;
  }
}

// The part of a target that is listed documents alone.
template <class T>
__global__ void __launch_bounds__(loss_threads)
    enter_listed(const __grid_constant__ DivergenceArgs a, const __grid_constant__ ViewState<T> s) {
  const int64_t q = blockIdx.x, query = s.first + q;
  for (int64_t e = a.listed.offsets[query] + threadIdx.x; e < a.listed.offsets[query + 1];
       e += loss_threads)
    for (int v = 0; v < s.n_views; ++v)
      s.scores[v][q * s.m + a.listed.indices[e]] -=
          static_cast<T>(static_cast<double>(s.weights[s.at(v, q)]) * s.listed[e * s.n_views + v]);
}

}  // namespace tilefold::cuda
