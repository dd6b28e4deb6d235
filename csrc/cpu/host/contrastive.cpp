// A block of queries meets all documents, a chunk at a time, and its scores stay in a buffer until
// the softmax of each query is known; then the same buffer holds their gradients, and two more
// products finish the block: 6 n m dim operations in all, and nothing of the matrix outlives its
// block. A symmetric loss needs the softmax of documents, too, which is known after all blocks only:
// it goes over the scores twice.
//
// Tasks never share what they write, and sums are added in an order that sizes alone determine.
#include "cpu/host/contrastive.h"

#include <cmath>
#include <limits>
#include <memory>
#include <vector>

#include "cpu/host/id_mask.h"
#include "cpu/host/logsum.h"
#include "cpu/host/masked_pairs.h"
#include "cpu/host/scores.h"
#include "cpu/host/walk.h"

namespace tilefold {
namespace {

// What a softmax over positives and other candidates comes to.
struct Anchor {
  double loss;
  double shift;  // the gradient of another candidate's score s is e^(s - shift)
};

// KL divergence of the softmax from targets, which sum to one.
Anchor settle_soft(const double* targets, double others, const std::vector<double>& scores,
                   std::vector<double>& gradients) {
  LogSum own;
  for (const double s : scores) own.add(s, 1);
  const double all = log_add(others, own.log());
  Anchor anchor = {0, all};
  gradients.resize(scores.size());
  for (size_t p = 0; p < scores.size(); ++p) {
    const double t = targets[p];
    if (t > 0) anchor.loss += t * (std::log(t) - (scores[p] - all));
    gradients[p] = std::exp(scores[p] - all) - t;
  }
  return anchor;
}

// Loss of one query (or document), and the gradients of its positives' scores.
Anchor settle(bool each, double others, const std::vector<double>& scores,
              std::vector<double>& gradients) {
  const double n = static_cast<double>(scores.size());
  gradients.resize(scores.size());
  if (each) {
    Anchor anchor = {0, 0};
    LogSum inverse;
    for (size_t p = 0; p < scores.size(); ++p) {
      const double all = log_add(others, scores[p]);
      anchor.loss += (all - scores[p]) / n;
      gradients[p] = -std::exp(others - all) / n;
      inverse.add(-all, 1 / n);
    }
    anchor.shift = -inverse.log();
    return anchor;
  }
  LogSum own;
  for (const double s : scores) own.add(s, 1);
  const double all = log_add(others, own.log());
  for (size_t p = 0; p < scores.size(); ++p)
    gradients[p] = std::exp(scores[p] - all) - std::exp(scores[p] - own.log());
  return {all - own.log(), all};
}

template <class T>
class Contrastive {
 public:
  Contrastive(const ContrastiveArgs& a, const Kernels& row, int threads, Pulse& pulse)
      : a_(a),
        k_(loss_kernels<T>(row)),
        walk_(a.queries.rows, a.documents.rows, k_.columns, sizeof(T) * (a.gated() ? 2 : 1),
              2 * static_cast<double>(a.queries.dim), threads, pulse),
        scores_(Scores<T>::make(a.queries, a.documents, walk_, row)),
        identity_(a.identity, walk_) {
    if (a.gated()) gates_ = Scores<T>::make(a.gate_queries, a.gate_documents, walk_, row);
    const int64_t padded = walk_.blocks() * walk_.block;
    shifts_.assign(size(padded), std::numeric_limits<T>::infinity());
    weights_.assign(size(padded), 0);
    positive_scores_.resize(size(a_.positives.offsets[walk_.n]));
    positive_gradients_.assign(positive_scores_.size(), 0);
    most_.resize(size(walk_.chunks * walk_.block));
    sum_.resize(size(walk_.chunks * walk_.block));
    if (a_.symmetric()) {
      document_sums_.resize(size(walk_.m));
      document_shifts_.assign(size(walk_.m), std::numeric_limits<T>::infinity());
      document_weights_.assign(size(walk_.m), 0);
    }
  }

  void run() {
    const int64_t blocks = walk_.blocks();
    const bool gradients = a_.query_weights && (a_.grad_queries || a_.grad_documents);
    walk_.passes(a_.symmetric() ? 2 : 1);
    for (int64_t b = 0; b < blocks && !walk_.pulse.stopped(); ++b) {
      score_block(b);
      settle_queries();
      if (a_.symmetric())
        fold_documents();
      else if (gradients)
        differentiate();
    }
    if (!a_.symmetric()) return;
    settle_documents();
    if (!gradients) return;
    for (int64_t b = 0; b < blocks && !walk_.pulse.stopped(); ++b) {
      score_block(b);
      differentiate();
    }
  }

 private:
  static size_t size(int64_t n) { return static_cast<size_t>(n); }

  // The scores of a block of queries with all documents, scaled; -inf for positives (whose scores
  // are kept apart) and for what is left out. And what each chunk holds of each query's softmax.
  void score_block(int64_t b) {
    walk_.go_to(b);
    scores_->load_queries();
    if (gates_) gates_->load_queries();
    marks_ = std::make_unique<Marks>(a_.positives, a_.excluded, walk_);
    walk_.parallel(walk_.chunks, [&](int64_t c) { score_chunk(c); });
  }

  void score_chunk(int64_t c) {
    if (walk_.pulse.stopped()) return;
    scores_->multiply(c);
    if (gates_) {
      gates_->multiply(c);
      for_panels(c, k_.close_gates);
    }
    for (const Mark* mark = marks_->begin(c); mark != marks_->end(c); ++mark) {
      T& score = scores_->at(mark->query, mark->document);
      if (mark->listed >= 0)
        positive_scores_[size(mark->listed)] = static_cast<double>(score) * a_.scale;
      score = -std::numeric_limits<T>::infinity();
    }
    identity_.for_each(
        c, [&](int64_t q, int64_t d) { scores_->at(q, d) = -std::numeric_limits<T>::infinity(); });
    scores_->leave_out_padding(c);
    for (int64_t p = 0; p < walk_.panels(); ++p) {
      const int64_t at = c * walk_.block + p * walk_.width;
      k_.fold_queries({scores_->panel(p, walk_.first_of(c)), walk_.documents_of(c),
                       static_cast<T>(a_.scale), most_.data() + at, sum_.data() + at});
    }
    walk_.pulse.beat(walk_.beat);
  }

  void for_panels(int64_t c, void (*kernel)(const GateArgs<T>&)) {
    const int64_t first = walk_.first_of(c);
    for (int64_t p = 0; p < walk_.panels(); ++p)
      kernel({scores_->panel(p, first), gates_->panel(p, first), walk_.documents_of(c)});
  }

  void settle_queries() {
    std::vector<double> scores, gradients;
    for (int64_t q = 0; q < walk_.rows; ++q) {
      LogSum others;
      for (int64_t c = 0; c < walk_.chunks; ++c)
        others.add(most_[size(c * walk_.block + q)], sum_[size(c * walk_.block + q)]);
      const int64_t query = walk_.first + q, begin = a_.positives.offsets[query];
      const double weight = a_.query_weights ? a_.query_weights[query] * a_.scale : 0;
      scores.assign(positive_scores_.data() + begin,
                    positive_scores_.data() + a_.positives.offsets[query + 1]);
      const Anchor anchor =
          a_.soft_targets ? settle_soft(a_.soft_targets + begin, others.log(), scores, gradients)
                          : settle(a_.each, others.log(), scores, gradients);
      a_.query_losses[query] = anchor.loss;
      shifts_[size(query)] = static_cast<T>(anchor.shift);
      weights_[size(query)] = weight_for(weight, anchor.shift);
      for (size_t p = 0; p < scores.size(); ++p)
        positive_gradients_[size(begin) + p] = weight * gradients[p];
    }
  }

  // With what rounding the shift to T takes from every e^(score - shift), so that the gradients of a
  // row still cancel.
  static T weight_for(double weight, double shift) {
    return static_cast<T>(weight * std::exp(static_cast<double>(static_cast<T>(shift)) - shift));
  }

  void fold_documents() {
    walk_.parallel(walk_.chunks, [&](int64_t c) {
      const int64_t first = walk_.first_of(c), n = walk_.documents_of(c);
      T most[Walk::chunk_documents], sum[Walk::chunk_documents];
      for (int64_t p = 0; p < walk_.panels(); ++p) {
        k_.fold_documents({scores_->panel(p, first), n, 1, most, sum});
        for (int64_t d = 0; d < n; ++d) document_sums_[size(first + d)].add(most[d], sum[d]);
      }
    });
  }

  void settle_documents() {
    std::vector<std::vector<int64_t>> owners(size(walk_.m));
    for (int64_t p = 0; p < a_.positives.offsets[walk_.n]; ++p)
      owners[size(a_.positives.indices[p])].push_back(p);
    std::vector<double> scores, gradients;
    for (int64_t d = 0; d < walk_.m; ++d) {
      const std::vector<int64_t>& own = owners[size(d)];
      a_.document_losses[d] = 0;
      if (own.empty()) continue;
      scores.clear();
      for (const int64_t p : own) scores.push_back(positive_scores_[size(p)]);
      const Anchor anchor = settle(a_.each, document_sums_[size(d)].log(), scores, gradients);
      const double weight = a_.document_weights ? a_.document_weights[d] * a_.scale : 0;
      a_.document_losses[d] = anchor.loss;
      document_shifts_[size(d)] = static_cast<T>(anchor.shift);
      document_weights_[size(d)] = weight_for(weight, anchor.shift);
      for (size_t i = 0; i < own.size(); ++i)
        positive_gradients_[size(own[i])] += weight * gradients[i];
    }
  }

  // Scores become their gradients; then both products.
  void differentiate() {
    walk_.parallel(walk_.chunks, [&](int64_t c) { differentiate_chunk(c); });
    if (a_.grad_queries) scores_->multiply_for_queries(static_cast<T*>(a_.grad_queries));
  }

  void differentiate_chunk(int64_t c) {
    const int64_t first = walk_.first_of(c);
    const bool both = a_.symmetric();
    for (int64_t p = 0; p < walk_.panels(); ++p) {
      const int64_t query = walk_.first + p * walk_.width;
      k_.weigh({scores_->panel(p, first), walk_.documents_of(c), shifts_.data() + query,
                weights_.data() + query, both ? document_shifts_.data() + first : nullptr,
                both ? document_weights_.data() + first : nullptr});
    }
    for (const Mark* mark = marks_->begin(c); mark != marks_->end(c); ++mark)
      if (mark->listed >= 0)
        scores_->at(mark->query, mark->document) =
            static_cast<T>(positive_gradients_[size(mark->listed)]);
    if (gates_) for_panels(c, k_.pass_gates);
    if (a_.grad_documents)
      scores_->multiply_for_documents(c, static_cast<T*>(a_.grad_documents), walk_.first > 0);
  }

  const ContrastiveArgs& a_;
  const LossKernels<T>& k_;
  Walk walk_;
  std::unique_ptr<Scores<T>> scores_;
  Identity identity_;
  std::unique_ptr<Scores<T>> gates_;  // or null
  std::vector<T> most_, sum_;         // [chunks][block]
  std::vector<T> shifts_, weights_;   // [n], padded
  std::vector<double> positive_scores_, positive_gradients_;
  std::vector<LogSum> document_sums_;                  // [m]
  std::vector<T> document_shifts_, document_weights_;  // [m]
  std::unique_ptr<Marks> marks_;
};

}  // namespace

void contrastive(const ContrastiveArgs& a, const Kernels& row, int threads, Pulse& pulse) {
  if (a.queries.rows == 0) return;
  const DefaultFloatEnvironment environment;
  if (a.queries.dtype == Dtype::f64)
    Contrastive<double>(a, row, threads, pulse).run();
  else
    Contrastive<float>(a, row, threads, pulse).run();
}

}  // namespace tilefold
