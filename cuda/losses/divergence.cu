// Divergences between views on CUDA devices, as on the CPU (cpu/host/divergence.cpp).
#include "cuda/losses/divergence.cuh"

#include <algorithm>

#include "check.h"
#include "cuda/losses/losses.h"
#include "cuda/losses/pair_products.cuh"
#include "cuda/platform/launch.h"

namespace tilefold::cuda {
namespace {

// T is the dtype of scores.
template <class T>
class Divergence {
 public:
  Divergence(const DivergenceArgs& a, const Stream& stream, Pulse& pulse)
      : a_(a),
        stream_(stream),
        pulse_(pulse),
        n_(a.views[0].queries.rows),
        m_(a.views[0].documents.rows),
        block_(block_queries(n_, m_ * static_cast<int64_t>(sizeof(T)) * a.n_views)),
        scores_(stream, block_ * m_ * a.n_views),
        numbers_(stream, 4 * block_ * a.n_views),
        errors_(stream, block_ * a.n_views),
        listed_(stream, a.listed.size * a.n_views) {
    const int64_t size = block_ * a.n_views;
    state_.n = n_;
    state_.m = m_;
    state_.block = block_;
    state_.n_views = a.n_views;
    state_.reference = a.reference;
    state_.mixture_first = a.mixture_first;
    state_.shifts = numbers_.data();
    state_.factors = numbers_.data() + size;
    state_.weights = numbers_.data() + 2 * size;
    state_.corrected = numbers_.data() + 3 * size;
    state_.shift_errors = errors_.data();
    state_.listed = a.listed.offsets ? listed_.data() : nullptr;
    for (int v = 0; v < a.n_views; ++v) {
      state_.scores[v] = scores_.data() + v * block_ * m_;
      state_.scales[v] = a.views[v].scale;
    }
  }

  void run() {
    for (int64_t first = 0; first < n_; first += block_) {
      state_.first = first;
      state_.rows = std::min(block_, n_ - first);
      if (!pulse_.beat(static_cast<double>(state_.rows) / static_cast<double>(n_))) return;
      for (int v = 0; v < a_.n_views; ++v) multiply_view(v);
      launch_for_queries("normalize_views", normalize_views<T>, sizeof(LogSumShared));
      launch_for_queries("compute_divergences", compute_divergences<T>, sizeof(LogSumShared));
      if (a_.weights) differentiate();
    }
  }

 private:
  void launch_for_queries(const char* name,
                          void (*kernel)(const DivergenceArgs, const ViewState<T>),
                          int64_t shared = 0) {
    launch(name, kernel, {state_.rows, 1, loss_threads, shared}, stream_, a_, state_);
  }

  void multiply_view(int v) {
    const ScoreView& view = a_.views[v];
    for_dtype_of<T>(view.queries.dtype, [&](auto type) {
      multiply_scores<decltype(type)>(stream_, view.queries, view.documents, here(),
                                      state_.scores[v]);
    });
  }

  QueryBlock here() const { return {state_.first, state_.rows}; }

  void differentiate() {
    launch("differentiate_views", differentiate_views<T>,
           {blocks_for(m_, loss_threads), state_.rows, loss_threads}, stream_, state_);
    if (state_.listed) launch_for_queries("enter_listed", enter_listed<T>);
    for (int v = 0; v < a_.n_views; ++v)
      for_dtype_of<T>(a_.views[v].queries.dtype,
                      [&](auto type) { multiply_gradients<decltype(type)>(v); });
  }

  template <class E>
  void multiply_gradients(int v) {
    const ScoreView& view = a_.views[v];
    const T* const gradients = state_.scores[v];
    if (view.grad_queries)
      multiply_for_queries<E>(stream_, gradients, view.documents, here(), view.grad_queries);
    if (view.grad_documents)
      multiply_for_documents<E>(stream_, gradients, view.queries, m_, here(), view.grad_documents,
                                state_.first > 0 || shared(v));
  }

  // Whether an earlier view has the same gradient of documents.
  bool shared(int view) const {
    for (int v = 0; v < view; ++v)
      if (a_.views[v].grad_documents == a_.views[view].grad_documents) return true;
    return false;
  }

  const DivergenceArgs& a_;
  const Stream stream_;
  Pulse& pulse_;
  const int64_t n_, m_, block_;
  ViewState<T> state_ = {};
  DeviceBuffer<T> scores_, numbers_;
  DeviceBuffer<double> errors_, listed_;
};

}  // namespace

void divergence(const DivergenceArgs& a, int, Pulse& pulse) {
  check(a.n_views <= max_views, "divergence: at most ", max_views, " views on cuda, got ",
        a.n_views);
  if (a.views[0].queries.rows == 0) return;
  const Stream stream("divergence", a.device);
  const DeviceGuard guard(stream);
  if (a.views[0].queries.dtype == Dtype::f64)
    Divergence<double>(a, stream, pulse).run();
  else
    Divergence<float>(a, stream, pulse).run();
}

}  // namespace tilefold::cuda
