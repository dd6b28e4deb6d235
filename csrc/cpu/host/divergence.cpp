// Like the contrastive loss, with a buffer of scores for every view: once all softmaxes of a block are
// known, one fold gives the divergences from their mixture, and another turns scores into gradients.
#include "cpu/host/divergence.h"

#include <cmath>
#include <limits>
#include <memory>
#include <vector>

#include "cpu/host/logsum.h"
#include "cpu/host/masked_pairs.h"
#include "cpu/host/scores.h"
#include "cpu/host/walk.h"

namespace tilefold {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

double work_of(const DivergenceArgs& a) {
  double work = 0;
  for (int v = 0; v < a.n_views; ++v) work += 2 * static_cast<double>(a.views[v].queries.dim);
  return work;
}

template <class T>
class Divergence {
 public:
  Divergence(const DivergenceArgs& a, const Kernels& row, int threads, Pulse& pulse)
      : a_(a),
        k_(loss_kernels<T>(row)),
        walk_(a.views[0].queries.rows, a.views[0].documents.rows, k_.columns,
              static_cast<int64_t>(sizeof(T)) * a.n_views, work_of(a), threads, pulse),
        most_(size(walk_.chunks * per_block())),
        sum_(most_.size()),
        divergences_(most_.size()),
        variances_(size(walk_.chunks * walk_.block)),
        shifts_(size(per_block())),
        factors_(shifts_.size()),
        weights_(shifts_.size()),
        known_(shifts_.size()),
        rests_(shifts_.size()) {
    for (int v = 0; v < a.n_views; ++v)
      scores_.push_back(Scores<T>::make(a.views[v].queries, a.views[v].documents, walk_, row));
    if (a.listed.offsets) listed_.resize(size(a.listed.offsets[walk_.n] * a.n_views));
  }

  void run() {
    walk_.passes(1);
    for (int64_t b = 0; b < walk_.blocks() && !walk_.pulse.stopped(); ++b) {
      walk_.go_to(b);
      for (auto& scores : scores_) scores->load_queries();
      marks_ = std::make_unique<Marks>(a_.listed, a_.excluded, walk_);
      walk_.parallel(walk_.chunks, [&](int64_t c) { score_chunk(c); });
      normalise();
      walk_.parallel(walk_.chunks, [&](int64_t c) { fold_chunk(c); });
      settle();
      if (a_.weights) differentiate();
    }
  }

 private:
  static size_t size(int64_t n) { return static_cast<size_t>(n); }

  // Numbers kept for each query of a block and view lie as [panels][views][width].
  int64_t per_block() const { return walk_.block * a_.n_views; }
  size_t at(int64_t q, int v) const {
    return size((q / walk_.width * a_.n_views + v) * walk_.width + q % walk_.width);
  }
  size_t at(int64_t c, int64_t q, int v) const { return size(c * per_block()) + at(q, v); }

  double& listed(int64_t e, int v) { return listed_[size(e * a_.n_views + v)]; }
  int64_t first_listed(int64_t q) const { return a_.listed.offsets[walk_.first + q]; }

  // Scaled scores, -inf for what is left out; and what each chunk holds of each softmax.
  void score_chunk(int64_t c) {
    if (walk_.pulse.stopped()) return;
    for (int v = 0; v < a_.n_views; ++v) {
      Scores<T>& scores = *scores_[size(v)];
      scores.multiply(c);
      for (const Mark* mark = marks_->begin(c); mark != marks_->end(c); ++mark)
        if (mark->listed < 0)
          scores.at(mark->query, mark->document) = -std::numeric_limits<T>::infinity();
      scores.leave_out_padding(c);
      for (int64_t p = 0; p < walk_.panels(); ++p) {
        const size_t place = at(c, p * walk_.width, v);
        k_.fold_queries({scores.panel(p, walk_.first_of(c)), walk_.documents_of(c),
                         static_cast<T>(a_.views[v].scale), most_.data() + place,
                         sum_.data() + place});
      }
      for (const Mark* mark = marks_->begin(c); mark != marks_->end(c); ++mark)
        if (mark->listed >= 0)
          listed(mark->listed, v) = static_cast<double>(scores.at(mark->query, mark->document));
    }
    walk_.pulse.beat(walk_.beat);
  }

  // The logarithm of each softmax's denominator in two parts: a shift in T, and the rest.
  void normalise() {
    for (int64_t q = 0; q < walk_.panels() * walk_.width; ++q)
      for (int v = 0; v < a_.n_views; ++v) {
        LogSum all;
        for (int64_t c = 0; c < walk_.chunks; ++c) all.add(most_[at(c, q, v)], sum_[at(c, q, v)]);
        const double log = all.log();
        T& shift = shifts_[at(q, v)] = std::numeric_limits<T>::infinity();
        rests_[at(q, v)] = 0;
        factors_[at(q, v)] = 1;
        if (log == -infinity) continue;  // nothing but what is left out
        shift = static_cast<T>(log);
        rests_[at(q, v)] = static_cast<double>(shift) - log;
        factors_[at(q, v)] = static_cast<T>(std::exp(rests_[at(q, v)]));
        if (a_.listed.offsets && q < walk_.rows)
          for (int64_t e = first_listed(q); e < first_listed(q + 1); ++e) listed(e, v) -= log;
      }
  }

  void fold_chunk(int64_t c) {
    for_panels(c, k_.fold_mixture, divergences_.data() + c * per_block());
  }

  void for_panels(int64_t c, void (*kernel)(const MixtureArgs<T>&), T* divergences) {
    std::vector<T*> panels(size(a_.n_views));
    for (int64_t p = 0; p < walk_.panels(); ++p) {
      for (int v = 0; v < a_.n_views; ++v)
        panels[size(v)] = scores_[size(v)]->panel(p, walk_.first_of(c));
      const size_t place = at(p * walk_.width, 0);
      kernel({panels.data(), a_.n_views, walk_.documents_of(c), a_.reference, a_.mixture_first,
              a_.listed.offsets != nullptr, shifts_.data() + place, factors_.data() + place,
              weights_.data() + place, divergences + place,
              variances_.data() + c * walk_.block + p * walk_.width});
    }
  }

  void settle() {
    for (int64_t q = 0; q < walk_.rows; ++q) {
      const int64_t query = walk_.first + q;
      a_.variances[query] = 0;
      for (int64_t c = 0; c < walk_.chunks; ++c)
        a_.variances[query] += variances_[size(c * walk_.block + q)];
      const bool some = a_.listed.offsets ? settle_listed(q) : settle_all(q);
      for (int v = 0; v < a_.n_views; ++v) {
        known_[at(q, v)] = static_cast<T>(a_.divergences[v * walk_.n + query] - rest_of(q, v));
        const double weight = a_.weights && some ? a_.weights[v * walk_.n + query] : 0;
        weights_[at(q, v)] = static_cast<T>(weight * a_.views[v].scale);
      }
    }
  }

  // What the kernels' log P_v - log M lack.
  double rest_of(int64_t q, int v) const {
    return rests_[at(q, v)] - (a_.reference < 0 ? 0 : rests_[at(q, a_.reference)]);
  }

  bool settle_all(int64_t q) {
    const int64_t query = walk_.first + q;
    const bool some = shifts_[at(q, 0)] < std::numeric_limits<T>::infinity();
    a_.masses[query] = some ? 1 : 0;
    for (int v = 0; v < a_.n_views; ++v) {
      double& sum = a_.divergences[v * walk_.n + query];
      sum = !some ? 0 : a_.mixture_first ? -rest_of(q, v) : rest_of(q, v);
      for (int64_t c = 0; c < walk_.chunks; ++c) sum += divergences_[at(c, q, v)];
      sum = std::max(sum, 0.0);  // what rounding leaves of none
    }
    return some;
  }

  // Of a mixture of listed documents alone, whose log P_v are known and become its probabilities.
  // False: there are none.
  bool settle_listed(int64_t q) {
    const int64_t query = walk_.first + q, begin = first_listed(q), end = first_listed(q + 1);
    std::vector<double> logs;
    LogSum mass;
    for (int64_t e = begin; e < end; ++e) {
      LogSum sum;
      for (int v = 0; v < a_.n_views; ++v)
        if (a_.reference < 0 || a_.reference == v) sum.add(listed(e, v), 1);
      logs.push_back(sum.log() - (a_.reference < 0 ? std::log(a_.n_views) : 0));
      mass.add(logs.back(), 1);
    }
    const bool some = mass.log() > -infinity;
    a_.masses[query] = some ? std::exp(mass.log()) : 0;
    for (int v = 0; v < a_.n_views; ++v) a_.divergences[v * walk_.n + query] = 0;
    for (int64_t e = begin; e < end; ++e) {
      const double log = logs[size(e - begin)] - mass.log();
      const double target = some ? std::exp(log) : 0;
      for (int v = 0; v < a_.n_views; ++v) {
        if (target > 0) a_.divergences[v * walk_.n + query] += target * (log - listed(e, v));
        listed(e, v) = target;
      }
    }
    return some;
  }

  void differentiate() {
    walk_.parallel(walk_.chunks, [&](int64_t c) { differentiate_chunk(c); });
    for (int v = 0; v < a_.n_views; ++v)
      if (void* out = a_.views[v].grad_queries)
        scores_[size(v)]->multiply_for_queries(static_cast<T*>(out));
  }

  void differentiate_chunk(int64_t c) {
    for_panels(c, k_.weigh_mixture, known_.data());
    for (int v = 0; v < a_.n_views; ++v) {
      Scores<T>& scores = *scores_[size(v)];
      for (const Mark* mark = marks_->begin(c); mark != marks_->end(c); ++mark)
        if (mark->listed >= 0)
          scores.at(mark->query, mark->document) -= static_cast<T>(
              static_cast<double>(weights_[at(mark->query, v)]) * listed(mark->listed, v));
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
  std::vector<std::unique_ptr<Scores<T>>> scores_;     // [views]
  std::vector<T> most_, sum_, divergences_;            // [chunks][panels][views][width]
  std::vector<T> variances_;                           // [chunks][block]
  std::vector<T> shifts_, factors_, weights_, known_;  // [panels][views][width]
  std::vector<double> rests_;                          // the same
  std::vector<double> listed_;                         // [listed][views]
  std::unique_ptr<Marks> marks_;
};

}  // namespace

void divergence(const DivergenceArgs& a, const Kernels& row, int threads, Pulse& pulse) {
  if (a.views[0].queries.rows == 0) return;
  const DefaultFloatEnvironment environment;
  if (a.views[0].queries.dtype == Dtype::f64)
    Divergence<double>(a, row, threads, pulse).run();
  else
    Divergence<float>(a, row, threads, pulse).run();
}

}  // namespace tilefold
