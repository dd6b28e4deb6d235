// Divergences between views. The computation is that of the contrastive loss with a buffer of
// scores for every view: once all softmaxes of a block are known, one kernel computes the
// divergences from their target, and another replaces scores by their gradients.
#include <cmath>
#include <limits>
#include <memory>
#include <vector>

#include "cpu/host/listed_target.h"
#include "cpu/host/logsum.h"
#include "cpu/host/losses.h"
#include "cpu/host/masked_pairs.h"
#include "cpu/host/scores.h"
#include "cpu/host/walk.h"

namespace tilefold::cpu {
namespace {

size_t index(int64_t i) { return static_cast<size_t>(i); }

// Operations to score one pair in all views.
double pair_work(const DivergenceArgs& a) {
  double work = 0;
  for (int v = 0; v < a.n_views; ++v) work += 2 * static_cast<double>(a.views[v].queries.dim);
  return work;
}

template <class T>
class Divergence {
 public:
  Divergence(const DivergenceArgs& a, const Row& row, int threads, Pulse& pulse)
      : a_(a),
        k_(loss_kernels<T>(row)),
        walk_(a.views[0].queries.rows, a.views[0].documents.rows, k_.columns,
              static_cast<int64_t>(sizeof(T)) * a.n_views, pair_work(a), threads, pulse),
        listed_(a, walk_.n),
        max_(index(walk_.chunks * block_size())),
        sum_(max_.size()),
        divergences_(max_.size()),
        variances_(index(walk_.chunks * walk_.block)),
        shifts_(index(block_size())),
        factors_(shifts_.size()),
        weights_(shifts_.size()),
        corrected_(shifts_.size()),
        shift_errors_(shifts_.size()) {
    for (int v = 0; v < a.n_views; ++v)
      scores_.push_back(Scores<T>::make(a.views[v].queries, a.views[v].documents, walk_, row));
  }

  void run() {
    walk_.set_passes(1);
    for (int64_t b = 0; b < walk_.blocks() && !walk_.pulse.stopped(); ++b) {
      walk_.go_to(b);
      for (auto& scores : scores_) scores->load_queries();
      pairs_ = std::make_unique<MaskedPairs>(a_.listed, a_.excluded, walk_);
      walk_.parallel(walk_.chunks, [&](int64_t c) { score_chunk(c); });
      normalize();
      walk_.parallel(walk_.chunks, [&](int64_t c) {
        for_panels(c, k_.mixture_divergence, divergences_.data() + c * block_size());
      });
      finish_block();
      if (a_.weights) differentiate();
    }
  }

 private:
  static constexpr T infinity = std::numeric_limits<T>::infinity();

  // Numbers for each query of a block and view lie as [panels][views][width].
  int64_t block_size() const { return walk_.block * a_.n_views; }
  size_t at(int64_t q, int v) const {
    return index((q / walk_.width * a_.n_views + v) * walk_.width + q % walk_.width);
  }
  size_t at(int64_t c, int64_t q, int v) const { return index(c * block_size()) + at(q, v); }

  // Computes scaled scores, -inf for excluded pairs, and the chunk's part of each logsumexp.
  void score_chunk(int64_t c) {
    if (walk_.pulse.stopped()) return;
    for (int v = 0; v < a_.n_views; ++v) {
      Scores<T>& scores = *scores_[index(v)];
      scores.multiply(c);
      for (const MaskedPair& pair : pairs_->chunk(c))
        if (pair.excluded()) scores.at(pair.query, pair.document) = -infinity;
      scores.mask_padding(c);
      for (int64_t p = 0; p < walk_.panels(); ++p) {
        const size_t place = at(c, p * walk_.width, v);
        k_.query_logsumexp({scores.panel(p, walk_.first_document(c)), walk_.n_documents(c),
                            static_cast<T>(a_.views[v].scale), max_.data() + place,
                            sum_.data() + place});
      }
      for (const MaskedPair& pair : pairs_->chunk(c))
        if (!pair.excluded())
          listed_.at(pair.listed, v) = static_cast<double>(scores.at(pair.query, pair.document));
    }
    walk_.pulse.beat(walk_.beat);
  }

  // Splits each logsumexp into a shift in T and the error of its rounding.
  void normalize() {
    for (int64_t q = 0; q < walk_.panels() * walk_.width; ++q)
      for (int v = 0; v < a_.n_views; ++v) {
        LogSum all;
        for (int64_t c = 0; c < walk_.chunks; ++c) all.add(max_[at(c, q, v)], sum_[at(c, q, v)]);
        const double log = all.log();
        T& shift = shifts_[at(q, v)] = infinity;
        shift_errors_[at(q, v)] = 0;
        factors_[at(q, v)] = 1;
        if (log == -std::numeric_limits<double>::infinity()) continue;  // all are excluded
        shift = static_cast<T>(log);
        shift_errors_[at(q, v)] = static_cast<double>(shift) - log;
        factors_[at(q, v)] = static_cast<T>(std::exp(shift_errors_[at(q, v)]));
        if (listed_.given() && q < walk_.rows) listed_.normalize(walk_.first + q, v, log);
      }
  }

  void for_panels(int64_t c, void (*kernel)(const MixtureArgs<T>&), T* divergences) {
    std::vector<T*> panels(index(a_.n_views));
    for (int64_t p = 0; p < walk_.panels(); ++p) {
      for (int v = 0; v < a_.n_views; ++v)
        panels[index(v)] = scores_[index(v)]->panel(p, walk_.first_document(c));
      const size_t place = at(p * walk_.width, 0);
      kernel({panels.data(), a_.n_views, walk_.n_documents(c), a_.reference, a_.mixture_first,
              listed_.given(), shifts_.data() + place, factors_.data() + place,
              weights_.data() + place, divergences + place,
              variances_.data() + c * walk_.block + p * walk_.width});
    }
  }

  // Sums what the chunks found, and prepares the gradient.
  void finish_block() {
    for (int64_t q = 0; q < walk_.rows; ++q) {
      const int64_t query = walk_.first + q;
      a_.variances[query] = 0;
      for (int64_t c = 0; c < walk_.chunks; ++c)
        a_.variances[query] += variances_[index(c * walk_.block + q)];
      const bool has_mass =
          listed_.given() ? listed_.compute_divergences(query) : sum_divergences(q);
      for (int v = 0; v < a_.n_views; ++v) {
        corrected_[at(q, v)] =
            static_cast<T>(a_.divergences[v * walk_.n + query] - log_ratio_error(q, v));
        const double weight = a_.weights && has_mass ? a_.weights[v * walk_.n + query] : 0;
        weights_[at(q, v)] = static_cast<T>(weight * a_.views[v].scale);
      }
    }
  }

  // The error of log P_v - log M in kernels, from the rounding of shifts.
  double log_ratio_error(int64_t q, int v) const {
    return shift_errors_[at(q, v)] - (a_.reference < 0 ? 0 : shift_errors_[at(q, a_.reference)]);
  }

  // Returns false if all documents are excluded.
  bool sum_divergences(int64_t q) {
    const int64_t query = walk_.first + q;
    const bool has_mass = shifts_[at(q, 0)] < infinity;
    a_.masses[query] = has_mass ? 1 : 0;
    for (int v = 0; v < a_.n_views; ++v) {
      double& sum = a_.divergences[v * walk_.n + query];
      const double error = log_ratio_error(q, v);
      sum = !has_mass ? 0 : a_.mixture_first ? -error : error;
      for (int64_t c = 0; c < walk_.chunks; ++c) sum += divergences_[at(c, q, v)];
      sum = std::max(sum, 0.0);  // rounding may leave less than zero
    }
    return has_mass;
  }

  void differentiate() {
    walk_.parallel(walk_.chunks, [&](int64_t c) { differentiate_chunk(c); });
    for (int v = 0; v < a_.n_views; ++v)
      if (void* out = a_.views[v].grad_queries)
        scores_[index(v)]->multiply_for_queries(static_cast<T*>(out));
  }

  void differentiate_chunk(int64_t c) {
    for_panels(c, k_.mixture_gradient, corrected_.data());
    for (int v = 0; v < a_.n_views; ++v) {
      Scores<T>& scores = *scores_[index(v)];
      for (const MaskedPair& pair : pairs_->chunk(c))
        if (!pair.excluded())
          scores.at(pair.query, pair.document) -= static_cast<T>(
              static_cast<double>(weights_[at(pair.query, v)]) * listed_.at(pair.listed, v));
      if (void* out = a_.views[v].grad_documents)
        scores.multiply_for_documents(c, static_cast<T*>(out), walk_.first > 0 || shared(v));
    }
  }

  // Whether an earlier view has the same gradient of documents.
  bool shared(int view) const {
    for (int v = 0; v < view; ++v)
      if (a_.views[v].grad_documents == a_.views[view].grad_documents) return true;
    return false;
  }

  const DivergenceArgs& a_;
  const LossKernels<T>& k_;
  Walk walk_;
  ListedTarget listed_;
  std::vector<std::unique_ptr<Scores<T>>> scores_;  // [views]
  std::vector<T> max_, sum_, divergences_;          // [chunks][panels][views][width]
  std::vector<T> variances_;                        // [chunks][block]
  // [panels][views][width]; corrected divergences are those that kernels subtract from log ratios
  std::vector<T> shifts_, factors_, weights_, corrected_;
  std::vector<double> shift_errors_;    // likewise
  std::unique_ptr<MaskedPairs> pairs_;  // of the current block
};

}  // namespace

void divergence(const DivergenceArgs& a, int threads, Pulse& pulse) {
  if (a.views[0].queries.rows == 0) return;
  const DefaultFloatEnvironment environment;
  const Row& row = active_row();
  if (a.views[0].queries.dtype == Dtype::f64)
    Divergence<double>(a, row, threads, pulse).run();
  else
    Divergence<float>(a, row, threads, pulse).run();
}

}  // namespace tilefold::cpu
