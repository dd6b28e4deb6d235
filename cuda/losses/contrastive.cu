// The contrastive loss on CUDA devices, as on the CPU (cpu/host/contrastive.cpp): the scores of a
// block of queries with all documents, the softmax of each query, gradients in the place of scores,
// and two more products. Bits do not depend on timing.
#include "cuda/losses/contrastive.cuh"

#include <algorithm>

#include "cuda/losses/losses.h"
#include "cuda/losses/pair_products.cuh"
#include "cuda/platform/launch.h"

namespace tilefold::cuda {
namespace {

// E is the dtype of embeddings, T that of scores.
template <class E, class T>
class Contrastive {
 public:
  Contrastive(const ContrastiveArgs& a, const Stream& stream, Pulse& pulse)
      : a_(a),
        stream_(stream),
        pulse_(pulse),
        n_(a.queries.rows),
        m_(a.documents.rows),
        block_(block_queries(n_, m_ * static_cast<int64_t>(sizeof(T)) * (a.gated() ? 2 : 1))),
        scores_(stream, block_ * m_),
        gates_(stream, a.gated() ? block_ * m_ : 0),
        positives_(stream, 2 * a.positives.size),
        queries_(stream, 2 * n_),
        document_sums_(stream, a.symmetric() ? 2 * m_ : 0),
        documents_(stream, a.symmetric() ? 2 * m_ : 0) {
    state_.scores = scores_.data();
    state_.gates = a.gated() ? gates_.data() : nullptr;
    state_.positive_scores = positives_.data();
    state_.positive_gradients = positives_.data() + a.positives.size;
    state_.shifts = queries_.data();
    state_.weights = queries_.data() + n_;
    state_.document_max = document_sums_.data();
    state_.document_sum = document_sums_.data() + m_;
  }

  void run() {
    const bool gradients = a_.query_weights && (a_.grad_queries || a_.grad_documents);
    if (a_.symmetric()) launch_for(m_, "clear_documents", clear_documents<T>, state_, m_);
    for (int64_t first = 0; first < n_ && go_on(first); first += block_) {
      score_block(first);
      launch_for_queries("query_losses", query_losses<T>, sizeof(LogSumShared));
      if (a_.symmetric())
        launch_for(m_, "add_to_documents", add_to_documents<T>, state_, m_);
      else if (gradients)
        differentiate_block();
    }
    if (!a_.symmetric() || pulse_.stopped()) return;
    state_.document_shifts = documents_.data();
    state_.document_weights = documents_.data() + m_;
    launch("document_losses", document_losses<T>, {m_, 1, loss_threads, sizeof(DocumentLossShared)},
           stream_, a_, state_);
    if (!gradients) return;
    for (int64_t first = 0; first < n_ && go_on(first); first += block_) {
      score_block(first);
      scale_scores();
      differentiate_block();
    }
  }

 private:
  bool go_on(int64_t first) {
    const double passes = a_.symmetric() ? 2 : 1;
    const double share =
        static_cast<double>(std::min(block_, n_ - first)) / static_cast<double>(n_);
    return pulse_.beat(share / passes);
  }

  template <class... Parameters, class... Arguments>
  void launch_for(int64_t items, const char* name, void (*kernel)(Parameters...),
                  const Arguments&... arguments) {
    launch(name, kernel, {blocks_for(items, loss_threads), 1, loss_threads}, stream_, arguments...);
  }
  template <class... Parameters>
  void launch_for_queries(const char* name, void (*kernel)(Parameters...), int64_t shared = 0) {
    launch(name, kernel, {state_.rows, 1, loss_threads, shared}, stream_, a_, state_);
  }

  // Scores of a block of queries, -inf for positives and for excluded pairs.
  void score_block(int64_t first) {
    state_.first = first;
    state_.rows = std::min(block_, n_ - first);
    multiply_scores<E>(stream_, a_.queries, a_.documents, here(), scores_.data());
    if (a_.gated()) {
      multiply_gates();
      launch_for(state_.rows * m_, "apply_gates", apply_gates<T>, scores_.data(), gates_.data(),
                 state_.rows * m_);
    }
    launch_for_queries("mask_pairs", mask_pairs<T>);
  }

  void multiply_gates() {
    for_dtype_of<T>(a_.gate_queries.dtype, [&](auto type) {
      multiply_scores<decltype(type)>(stream_, a_.gate_queries, a_.gate_documents, here(),
                                      gates_.data());
    });
  }

  QueryBlock here() const { return {state_.first, state_.rows}; }

  void scale_scores() {
    launch_for(state_.rows * m_, "scale_scores", scale_all<T>, scores_.data(), state_.rows * m_,
               static_cast<T>(a_.scale));
  }

  // Gradients in the place of scores, and their products with documents and queries.
  void differentiate_block() {
    launch("differentiate", differentiate<T>,
           {blocks_for(m_, loss_threads), state_.rows, loss_threads}, stream_, state_, m_);
    launch_for_queries("enter_positives", enter_positives<T>);
    if (a_.grad_queries)
      multiply_for_queries<E>(stream_, scores_.data(), a_.documents, here(), a_.grad_queries);
    if (a_.grad_documents)
      multiply_for_documents<E>(stream_, scores_.data(), a_.queries, m_, here(), a_.grad_documents,
                                state_.first > 0);
  }

  const ContrastiveArgs& a_;
  const Stream stream_;
  Pulse& pulse_;
  const int64_t n_, m_, block_;
  LossState<T> state_ = {};
  DeviceBuffer<T> scores_, gates_;
  DeviceBuffer<double> positives_;
  DeviceBuffer<T> queries_;
  DeviceBuffer<double> document_sums_;
  DeviceBuffer<T> documents_;
};

}  // namespace

void contrastive(const ContrastiveArgs& a, int, Pulse& pulse) {
  const Stream stream("contrastive_loss", a.device);
  const DeviceGuard guard(stream);
  if (a.queries.rows == 0) {
    const int64_t m = a.documents.rows;
    if (a.document_losses) clear(stream, a.document_losses, m);
    if (a.grad_documents && a.documents.dtype == Dtype::f64)
      clear(stream, static_cast<double*>(a.grad_documents), m * a.documents.dim);
    else if (a.grad_documents)
      clear(stream, static_cast<float*>(a.grad_documents), m * a.documents.dim);
    return;
  }
  if (a.queries.dtype == Dtype::f64) return Contrastive<double, double>(a, stream, pulse).run();
  for_dtype_of<float>(a.queries.dtype, [&](auto type) {
    Contrastive<decltype(type), float>(a, stream, pulse).run();
  });
}

}  // namespace tilefold::cuda
