// The contrastive loss. A block of queries is scored against all documents, a chunk at a time, and
// its scores stay in a buffer until the softmax of each query is known. The same buffer then holds
// the gradients of the scores, and two more products finish the block: 6 n m dim operations in all,
// and no part of the score matrix outlives its block. The symmetric form also needs the softmax of
// each document, which is known only after all blocks, so it computes the scores twice.
//
// Tasks never write to the same memory, and the order of additions depends on sizes alone.
#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <vector>

#include "cpu/host/id_mask.h"
#include "cpu/host/logsum.h"
#include "cpu/host/losses.h"
#include "cpu/host/masked_pairs.h"
#include "cpu/host/row_loss.h"
#include "cpu/host/scores.h"
#include "cpu/host/walk.h"

namespace tilefold::cpu {
namespace {

size_t index(int64_t i) { return static_cast<size_t>(i); }

template <class T>
class Contrastive {
 public:
  Contrastive(const ContrastiveArgs& a, const Row& row, int threads, Pulse& pulse)
      : a_(a),
        k_(loss_kernels<T>(row)),
        walk_(a.queries.rows, a.documents.rows, k_.columns, sizeof(T) * (a.gated() ? 2 : 1),
              2 * static_cast<double>(a.queries.dim), threads, pulse),
        scores_(Scores<T>::make(a.queries, a.documents, walk_, row)),
        id_mask_(a.excluded_ids, walk_) {
    if (a.gated()) gates_ = Scores<T>::make(a.gate_queries, a.gate_documents, walk_, row);
    const int64_t padded = walk_.blocks() * walk_.block;
    shifts_.assign(index(padded), infinity);
    weights_.assign(index(padded), 0);
    positive_scores_.resize(index(a_.positives.offsets[walk_.n]));
    positive_gradients_.assign(positive_scores_.size(), 0);
    max_.resize(index(walk_.chunks * walk_.block));
    sum_.resize(index(walk_.chunks * walk_.block));
    if (a_.symmetric()) {
      document_sums_.resize(index(walk_.m));
      document_shifts_.assign(index(walk_.m), infinity);
      document_weights_.assign(index(walk_.m), 0);
    }
  }

  void run() {
    const int64_t blocks = walk_.blocks();
    const bool gradients = a_.query_weights && (a_.grad_queries || a_.grad_documents);
    walk_.set_passes(a_.symmetric() ? 2 : 1);
    for (int64_t b = 0; b < blocks && !walk_.pulse.stopped(); ++b) {
      score_block(b);
      compute_query_losses();
      if (a_.symmetric())
        sum_over_queries();
      else if (gradients)
        differentiate();
    }
    if (!a_.symmetric()) return;
    compute_document_losses();
    if (!gradients) return;
    for (int64_t b = 0; b < blocks && !walk_.pulse.stopped(); ++b) {
      score_block(b);
      differentiate();
    }
  }

 private:
  static constexpr T infinity = std::numeric_limits<T>::infinity();

  // Computes the scaled scores of a block of queries with all documents, and for each chunk its
  // part of each query's logsumexp. Scores are -inf for excluded pairs and for positives, whose
  // scores are stored separately.
  void score_block(int64_t b) {
    walk_.go_to(b);
    scores_->load_queries();
    if (gates_) gates_->load_queries();
    pairs_ = std::make_unique<MaskedPairs>(a_.positives, a_.excluded, walk_);
    walk_.parallel(walk_.chunks, [&](int64_t c) { score_chunk(c); });
  }

  void score_chunk(int64_t c) {
    if (walk_.pulse.stopped()) return;
    scores_->multiply(c);
    if (gates_) {
      gates_->multiply(c);
      apply_gates(c, k_.gate_scores);
    }
    for (const MaskedPair& pair : pairs_->chunk(c)) {
      T& score = scores_->at(pair.query, pair.document);
      if (!pair.excluded())
        positive_scores_[index(pair.listed)] = static_cast<double>(score) * a_.scale;
      score = -infinity;
    }
    id_mask_.for_each(c, [&](int64_t q, int64_t d) { scores_->at(q, d) = -infinity; });
    scores_->mask_padding(c);
    for (int64_t p = 0; p < walk_.panels(); ++p) {
      const int64_t at = c * walk_.block + p * walk_.width;
      k_.query_logsumexp({scores_->panel(p, walk_.first_document(c)), walk_.n_documents(c),
                          static_cast<T>(a_.scale), max_.data() + at, sum_.data() + at});
    }
    walk_.pulse.beat(walk_.beat);
  }

  void apply_gates(int64_t c, void (*kernel)(const GateArgs<T>&)) {
    const int64_t first = walk_.first_document(c);
    for (int64_t p = 0; p < walk_.panels(); ++p)
      kernel({scores_->panel(p, first), gates_->panel(p, first), walk_.n_documents(c)});
  }

  void compute_query_losses() {
    std::vector<double> scores, gradients;
    for (int64_t q = 0; q < walk_.rows; ++q) {
      LogSum others;
      for (int64_t c = 0; c < walk_.chunks; ++c)
        others.add(max_[index(c * walk_.block + q)], sum_[index(c * walk_.block + q)]);
      const int64_t query = walk_.first + q, begin = a_.positives.offsets[query];
      const double weight = a_.query_weights ? a_.query_weights[query] * a_.scale : 0;
      scores.assign(positive_scores_.data() + begin,
                    positive_scores_.data() + a_.positives.offsets[query + 1]);
      const RowLoss row =
          a_.soft_targets
              ? soft_target_loss(a_.soft_targets + begin, others.log(), scores, gradients)
              : positive_loss(a_.per_positive, others.log(), scores, gradients);
      a_.query_losses[query] = row.loss;
      shifts_[index(query)] = static_cast<T>(row.shift);
      weights_[index(query)] = corrected_weight(weight, row.shift);
      for (size_t p = 0; p < scores.size(); ++p)
        positive_gradients_[index(begin) + p] = weight * gradients[p];
    }
  }

  // The weight times the factor by which rounding the shift to T changes every e^(score - shift),
  // so that the gradients of a row still sum to zero.
  static T corrected_weight(double weight, double shift) {
    return static_cast<T>(weight * std::exp(static_cast<double>(static_cast<T>(shift)) - shift));
  }

  // Adds the block's part of each document's logsumexp.
  void sum_over_queries() {
    walk_.parallel(walk_.chunks, [&](int64_t c) {
      const int64_t first = walk_.first_document(c), n = walk_.n_documents(c);
      T max[Walk::chunk_documents], sum[Walk::chunk_documents];
      for (int64_t p = 0; p < walk_.panels(); ++p) {
        k_.document_logsumexp({scores_->panel(p, first), n, 1, max, sum});
        for (int64_t d = 0; d < n; ++d) document_sums_[index(first + d)].add(max[d], sum[d]);
      }
    });
  }

  void compute_document_losses() {
    // For each document, the positions in the lists at which it is a positive.
    std::vector<std::vector<int64_t>> positions(index(walk_.m));
    for (int64_t p = 0; p < a_.positives.offsets[walk_.n]; ++p)
      positions[index(a_.positives.indices[p])].push_back(p);
    std::vector<double> scores, gradients;
    for (int64_t d = 0; d < walk_.m; ++d) {
      const std::vector<int64_t>& own = positions[index(d)];
      a_.document_losses[d] = 0;
      if (own.empty()) continue;
      scores.clear();
      for (const int64_t p : own) scores.push_back(positive_scores_[index(p)]);
      const RowLoss row =
          positive_loss(a_.per_positive, document_sums_[index(d)].log(), scores, gradients);
      const double weight = a_.document_weights ? a_.document_weights[d] * a_.scale : 0;
      a_.document_losses[d] = row.loss;
      document_shifts_[index(d)] = static_cast<T>(row.shift);
      document_weights_[index(d)] = corrected_weight(weight, row.shift);
      for (size_t i = 0; i < own.size(); ++i)
        positive_gradients_[index(own[i])] += weight * gradients[i];
    }
  }

  // Replaces the block's scores by their gradients, and multiplies these with documents and
  // queries.
  void differentiate() {
    walk_.parallel(walk_.chunks, [&](int64_t c) { differentiate_chunk(c); });
    if (a_.grad_queries) scores_->multiply_for_queries(static_cast<T*>(a_.grad_queries));
  }

  void differentiate_chunk(int64_t c) {
    const int64_t first = walk_.first_document(c);
    const bool both = a_.symmetric();
    for (int64_t p = 0; p < walk_.panels(); ++p) {
      const int64_t query = walk_.first + p * walk_.width;
      k_.softmax_gradient({scores_->panel(p, first), walk_.n_documents(c), shifts_.data() + query,
                           weights_.data() + query,
                           both ? document_shifts_.data() + first : nullptr,
                           both ? document_weights_.data() + first : nullptr});
    }
    for (const MaskedPair& pair : pairs_->chunk(c))
      if (!pair.excluded())
        scores_->at(pair.query, pair.document) =
            static_cast<T>(positive_gradients_[index(pair.listed)]);
    if (gates_) apply_gates(c, k_.gate_gradients);
    if (a_.grad_documents)
      scores_->multiply_for_documents(c, static_cast<T*>(a_.grad_documents), walk_.first > 0);
  }

  const ContrastiveArgs& a_;
  const LossKernels<T>& k_;
  Walk walk_;
  std::unique_ptr<Scores<T>> scores_;
  IdMask id_mask_;
  std::unique_ptr<Scores<T>> gates_;  // or null
  std::vector<T> max_, sum_;          // [chunks][block] parts of each query's logsumexp
  std::vector<T> shifts_, weights_;   // [n], padded
  std::vector<double> positive_scores_, positive_gradients_;
  std::vector<LogSum> document_sums_;                  // [m]
  std::vector<T> document_shifts_, document_weights_;  // [m]
  std::unique_ptr<MaskedPairs> pairs_;                 // of the current block
};

// The losses and gradients of documents without any query.
void write_zeros(const ContrastiveArgs& a) {
  const int64_t m = a.documents.rows, size = m * a.documents.dim;
  if (a.document_losses) std::fill_n(a.document_losses, m, 0.0);
  if (!a.grad_documents) return;
  if (a.documents.dtype == Dtype::f64)
    std::fill_n(static_cast<double*>(a.grad_documents), size, 0.0);
  else
    std::fill_n(static_cast<float*>(a.grad_documents), size, 0.0f);
}

}  // namespace

void contrastive(const ContrastiveArgs& a, int threads, Pulse& pulse) {
  if (a.queries.rows == 0) return write_zeros(a);
  const DefaultFloatEnvironment environment;
  const Row& row = active_row();
  if (a.queries.dtype == Dtype::f64)
    Contrastive<double>(a, row, threads, pulse).run();
  else
    Contrastive<float>(a, row, threads, pulse).run();
}

}  // namespace tilefold::cpu
