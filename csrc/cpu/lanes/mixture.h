// Divergences between the softmax distributions P_v of several views and their target M, and the
// gradients of the scores.
#pragma once
#include "cpu/lanes/product.h"

namespace tilefold::cpu::ISA {
namespace {

// A distribution's value at one document.
template <class T>
struct Probability {
  typename Number<T>::Lanes value, log;
};

// Smaller probabilities are treated as 0, since 0 times their logarithm, -inf, would be NaN.
template <class T>
constexpr T min_normal = sizeof(T) == 4 ? T(0x1p-126) : T(0x1p-1022);

template <class T>
Probability<T> softmax(const MixtureArgs<T>& f, int view, int64_t document, int at) {
  const int64_t place = view * tile_columns<T> + at;
  const T* score = f.scores[view] + document * tile_columns<T> + at;
  const typename Number<T>::Lanes log = sub(load(score), load(f.shifts + place));
  return {mul(exponential(log), load(f.factors + place)), log};
}

template <class T>
Probability<T> mixture(const MixtureArgs<T>& f, int64_t document, int at) {
  using L = Number<T>;
  if (f.reference >= 0) return softmax(f, f.reference, document, at);
  typename L::Lanes sum = L::splat(0);
  for (int v = 0; v < f.n_views; ++v) sum = add(sum, softmax(f, v, document, at).value);
  const typename L::Lanes log = logarithm(maximum(sum, L::splat(min_normal<T>)));
  return {mul(sum, L::splat(static_cast<T>(1.0 / f.n_views))),
          sub(log, L::splat(static_cast<T>(::log(static_cast<double>(f.n_views)))))};
}

template <class T>
void mixture_divergence(const MixtureArgs<T>& f) {
  using L = Number<T>;
  const typename L::Lanes zero = L::splat(0), smallest = L::splat(min_normal<T>);
  const typename L::Lanes inverse_n = L::splat(static_cast<T>(1.0 / f.n_views));
  for (int at = 0; at < tile_columns<T>; at += L::width) {
    for (int v = 0; v < f.n_views; ++v) store(f.divergences + v * tile_columns<T> + at, zero);
    typename L::Lanes variance = zero;
    for (int64_t d = 0; d < f.n_documents; ++d) {
      const Probability<T> m = mixture(f, d, at);
      for (int v = 0; v < f.n_views; ++v) {
        const Probability<T> p = softmax(f, v, d, at);
        const typename L::Lanes weight = f.mixture_first ? m.value : p.value;
        const typename L::Lanes ratio = f.mixture_first ? sub(m.log, p.log) : sub(p.log, m.log);
        T* sum = f.divergences + v * tile_columns<T> + at;
        store(sum, add(load(sum), select(weight, smallest, mul(weight, ratio), zero)));
        const typename L::Lanes deviation = sub(p.value, m.value);
        if (f.reference < 0)
          variance = multiply_add(mul(deviation, deviation), inverse_n, variance);
      }
    }
    store(f.variances + at, variance);
  }
}

// Replaces scores by the gradients of the weighted divergences.
template <class T>
void mixture_gradient(const MixtureArgs<T>& f) {
  using L = Number<T>;
  const typename L::Lanes zero = L::splat(0), smallest = L::splat(min_normal<T>);
  for (int at = 0; at < tile_columns<T>; at += L::width)
    for (int64_t d = 0; d < f.n_documents; ++d) {
      const Probability<T> m = mixture(f, d, at);
      for (int v = 0; v < f.n_views; ++v) {
        const int64_t place = v * tile_columns<T> + at;
        const Probability<T> p = softmax(f, v, d, at);
        typename L::Lanes g;
        if (f.mixture_first) {
          g = f.sparse_target ? p.value : sub(p.value, m.value);
        } else {
          const typename L::Lanes ratio = sub(sub(p.log, m.log), load(f.divergences + place));
          g = select(p.value, smallest, mul(p.value, ratio), zero);
        }
        store(f.scores[v] + d * tile_columns<T> + at, mul(load(f.weights + place), g));
      }
    }
}

}  // namespace
}  // namespace tilefold::cpu::ISA
