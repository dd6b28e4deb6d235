// Reductions of tiles of scores [documents][queries] to parts of logsumexps, and the softmax
// gradient of the scores.
#pragma once
#include "cpu/lanes/product.h"

namespace tilefold::cpu::ISA {
namespace {

// Scales scores; computes the maximum and the sum of e^(score - maximum) for each query.
template <class T>
void query_logsumexp(const LogSumExpArgs<T>& f) {
  using L = Number<T>;
  for (int at = 0; at < tile_columns<T>; at += L::width) {
    typename L::Lanes max = L::splat(-HUGE_VAL);
    T* s = f.scores + at;
    for (int64_t d = 0; d < f.n_documents; ++d, s += tile_columns<T>) {
      const typename L::Lanes score = mul(load(s), L::splat(f.scale));
      store(s, score);
      max = maximum(max, score);
    }
    store(f.max + at, max);
    // If all scores are -inf, any finite shift gives a sum of zero.
    const typename L::Lanes shift = maximum(max, L::splat(-1e30f));
    typename L::Lanes sum = L::splat(0);
    s = f.scores + at;
    for (int64_t d = 0; d < f.n_documents; ++d, s += tile_columns<T>)
      sum = add(sum, exponential(sub(load(s), shift)));
    store(f.sum + at, sum);
  }
}

// The same for each document, for scores that are already scaled.
template <class T>
void document_logsumexp(const LogSumExpArgs<T>& f) {
  using L = Number<T>;
  const T* s = f.scores;
  for (int64_t d = 0; d < f.n_documents; ++d, s += tile_columns<T>) {
    typename L::Lanes max = load(s);
    for (int at = L::width; at < tile_columns<T>; at += L::width) max = maximum(max, load(s + at));
    T lane[L::width];
    store(lane, max);
    T top = lane[0];
    for (int l = 1; l < L::width; ++l) top = lane[l] > top ? lane[l] : top;
    const typename L::Lanes shift = L::splat(top > T(-1e30) ? top : T(-1e30));
    typename L::Lanes sums = L::splat(0);
    for (int at = 0; at < tile_columns<T>; at += L::width)
      sums = add(sums, exponential(sub(load(s + at), shift)));
    store(lane, sums);
    T sum = 0;
    for (int l = 0; l < L::width; ++l) sum += lane[l];
    f.max[d] = top;
    f.sum[d] = sum;
  }
}

// Replaces scores by weight e^(score - shift) of the query, plus that of the document if given.
template <class T>
void softmax_gradient(const SoftmaxGradientArgs<T>& w) {
  using L = Number<T>;
  for (int at = 0; at < tile_columns<T>; at += L::width) {
    const typename L::Lanes shift = load(w.query_shifts + at), weight = load(w.query_weights + at);
    T* s = w.scores + at;
    for (int64_t d = 0; d < w.n_documents; ++d, s += tile_columns<T>) {
      const typename L::Lanes score = load(s);
      typename L::Lanes g = mul(weight, exponential(sub(score, shift)));
      if (w.document_shifts)
        g = multiply_add(L::splat(w.document_weights[d]),
                         exponential(sub(score, L::splat(w.document_shifts[d]))), g);
      store(s, g);
    }
  }
}

}  // namespace
}  // namespace tilefold::cpu::ISA
