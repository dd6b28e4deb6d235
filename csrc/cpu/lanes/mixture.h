// Folds over the softmaxes of several views of a query: how far they are from their mixture, and the
// gradients that their scores get in their place.
#pragma once
#include "cpu/lanes/product.h"

namespace tilefold::cpu::ISA {
namespace {

template <class T>
struct Share {  // at one document
  typename Number<T>::Lanes probability, log;
};

// Below this a probability counts as 0, also where its logarithm, infinite, is a factor.
template <class T>
constexpr T smallest = sizeof(T) == 4 ? T(0x1p-126) : T(0x1p-1022);

template <class T>
Share<T> softmax(const MixtureArgs<T>& f, int view, int64_t document, int at) {
  const int64_t place = view * tile_columns<T> + at;
  const T* score = f.scores[view] + document * tile_columns<T> + at;
  const typename Number<T>::Lanes log = sub(load(score), load(f.shifts + place));
  return {mul(exponential(log), load(f.factors + place)), log};
}

template <class T>
Share<T> mixture(const MixtureArgs<T>& f, int64_t document, int at) {
  using L = Number<T>;
  if (f.reference >= 0) return softmax(f, f.reference, document, at);
  typename L::Lanes sum = L::splat(0);
  for (int v = 0; v < f.n_views; ++v) sum = add(sum, softmax(f, v, document, at).probability);
  const typename L::Lanes log = logarithm(maximum(sum, L::splat(smallest<T>)));
  return {mul(sum, L::splat(static_cast<T>(1.0 / f.n_views))),
          sub(log, L::splat(static_cast<T>(::log(static_cast<double>(f.n_views)))))};
}

template <class T>
void mixture_divergence(const MixtureArgs<T>& f) {
  using L = Number<T>;
  const typename L::Lanes zero = L::splat(0), least = L::splat(smallest<T>);
  const typename L::Lanes share = L::splat(static_cast<T>(1.0 / f.n_views));
  for (int at = 0; at < tile_columns<T>; at += L::width) {
    for (int v = 0; v < f.n_views; ++v) store(f.divergences + v * tile_columns<T> + at, zero);
    typename L::Lanes variance = zero;
    for (int64_t d = 0; d < f.n_documents; ++d) {
      const Share<T> m = mixture(f, d, at);
      for (int v = 0; v < f.n_views; ++v) {
        const Share<T> p = softmax(f, v, d, at);
        const typename L::Lanes weight = f.mixture_first ? m.probability : p.probability;
        const typename L::Lanes ratio = f.mixture_first ? sub(m.log, p.log) : sub(p.log, m.log);
        T* sum = f.divergences + v * tile_columns<T> + at;
        store(sum, add(load(sum), choose(weight, least, mul(weight, ratio), zero)));
        const typename L::Lanes off = sub(p.probability, m.probability);
        if (f.reference < 0) variance = multiply_add(mul(off, off), share, variance);
      }
    }
    store(f.variances + at, variance);
  }
}

// Scores become the gradients of weighted divergences.
template <class T>
void mixture_gradient(const MixtureArgs<T>& f) {
  using L = Number<T>;
  const typename L::Lanes zero = L::splat(0), least = L::splat(smallest<T>);
  for (int at = 0; at < tile_columns<T>; at += L::width)
    for (int64_t d = 0; d < f.n_documents; ++d) {
      const Share<T> m = mixture(f, d, at);
      for (int v = 0; v < f.n_views; ++v) {
        const int64_t place = v * tile_columns<T> + at;
        const Share<T> p = softmax(f, v, d, at);
        typename L::Lanes g;
        if (f.mixture_first) {
          g = f.sparse_target ? p.probability : sub(p.probability, m.probability);
        } else {
          const typename L::Lanes ratio = sub(sub(p.log, m.log), load(f.divergences + place));
          g = choose(p.probability, least, mul(p.probability, ratio), zero);
        }
        store(f.scores[v] + d * tile_columns<T> + at, mul(load(f.weights + place), g));
      }
    }
}

}  // namespace
}  // namespace tilefold::cpu::ISA
