// A block of queries meets all documents, a chunk at a time, and its scores stay in a buffer until
// the softmax of each query is known; then the same buffer holds their gradients, and two more
// products finish the block: 6 n m dim operations in all, and nothing of the matrix outlives its
// block. A symmetric loss needs the softmax of documents, too, which is known after all blocks only:
// it goes over the scores twice.
//
// Tasks never share what they write, and sums are added in an order that sizes alone determine.
#include "contrastive.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <memory>
#include <vector>

#include "marks.h"
#include "parallel.h"

namespace tilefold {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr int64_t score_bytes = 40 << 20;  // of a block of queries; the larger part of all scratch
constexpr int64_t most_queries = 512;      // of a block: packing a chunk is then 1 % of using it
constexpr int64_t chunk_documents = 128;   // with their scores in L2
// Inner dimension of a product: so much of a packed tile stays in L1, and with the panel of scores
// that it meets in the product for queries.
constexpr int64_t depth = 256, panel_depth = 128;
constexpr int64_t tile_group = 4;  // packed tiles of columns that a task uses at once

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

double log_add(double a, double b) {
  const double top = std::max(a, b);
  return top == -infinity ? top : top + std::log1p(std::exp(std::min(a, b) - top));
}

// e^a summed in parts, each relative to its maximum.
struct LogSum {
  double most = -infinity, sum = 0;

  void add(double part_most, double part_sum) {
    if (part_most == -infinity) return;
    if (part_most > most) {
      sum *= std::exp(most - part_most);
      most = part_most;
    }
    sum += part_sum * std::exp(part_most - most);
  }
  double log() const { return most + std::log(sum); }  // -inf if nothing was added
};

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

// Memory for tiles, on whole cache lines.
template <class T>
class Buffer {
 public:
  explicit Buffer(int64_t size = 0) : memory_(new T[static_cast<size_t>(size) + 64 / sizeof(T)]) {
    const auto address = reinterpret_cast<uintptr_t>(memory_.get());
    data_ = memory_.get() + (64 - address % 64) % 64 / sizeof(T);
  }
  T* data() { return data_; }

 private:
  std::unique_ptr<T[]> memory_;  // not initialised
  T* data_;
};

template <class T>
class Contrastive {
 public:
  Contrastive(const ContrastiveArgs& a, const LossKernels<T>& kernels,
              void (*widen)(const Matrix&, int64_t, float*), int threads, Pulse& pulse)
      : a_(a), k_(kernels), widen_(widen), threads_(threads), pulse_(pulse) {
    n_ = a.queries.rows;
    m_ = a.documents.rows;
    dim_ = a.queries.dim;
    width_ = k_.columns;
    const int64_t fit = score_bytes / (m_ * width_ * static_cast<int64_t>(sizeof(T)));
    const int64_t panels = std::max<int64_t>(1, std::min(fit, most_queries / width_));
    const int64_t blocks = ceil_div(ceil_div(n_, width_), panels);  // of nearly one size
    block_ = ceil_div(ceil_div(n_, blocks), width_) * width_;
    chunks_ = ceil_div(m_, chunk_documents);
    if (2.0 * static_cast<double>(n_) * m_ * dim_ < 4e6) threads_ = 1;
  }

  void run() {
    prepare();
    const int64_t blocks = ceil_div(n_, block_);
    const bool gradients = a_.query_weights && (a_.grad_queries || a_.grad_documents);
    passes_ = (a_.symmetric() ? 2 : 1) * static_cast<double>(blocks);
    for (int64_t b = 0; b < blocks && !pulse_.stopped(); ++b) {
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
    for (int64_t b = 0; b < blocks && !pulse_.stopped(); ++b) {
      score_block(b);
      differentiate();
    }
  }

 private:
  void prepare() {
    const auto size = [](int64_t n) { return static_cast<size_t>(n); };
    const int64_t padded = ceil_div(n_, block_) * block_;
    shifts_.assign(size(padded), std::numeric_limits<T>::infinity());
    weights_.assign(size(padded), 0);
    positive_scores_.resize(size(a_.positive_offsets[n_]));
    positive_gradients_.assign(positive_scores_.size(), 0);
    most_.resize(size(chunks_ * block_));
    sum_.resize(size(chunks_ * block_));
    queries_ = Buffer<T>(block_ * dim_);
    packed_ = Buffer<T>(block_ * std::max(dim_, ceil_div(dim_, width_) * width_));
    scores_ = Buffer<T>(block_ * m_);
    if (a_.symmetric()) {
      document_sums_.resize(size(m_));
      document_shifts_.assign(size(m_), std::numeric_limits<T>::infinity());
      document_weights_.assign(size(m_), 0);
    }
  }

  // Rows of documents as T: where they lie, or widened into `buffer`.
  const T* rows(const Matrix& m, int64_t first, int64_t n, T* buffer, int64_t& stride) const {
    constexpr Dtype own = sizeof(T) == 4 ? Dtype::f32 : Dtype::f64;
    if (m.dtype == own) {
      stride = m.row_stride;
      return static_cast<const T*>(m.data) + first * m.row_stride;
    }
    stride = m.dim;
    if constexpr (sizeof(T) == 4)
      for (int64_t i = 0; i < n; ++i) widen_(m, first + i, buffer + i * m.dim);
    return buffer;
  }

  Buffer<T> buffer_for(const Matrix& m, int64_t rows) const {
    constexpr Dtype own = sizeof(T) == 4 ? Dtype::f32 : Dtype::f64;
    return Buffer<T>(m.dtype == own ? 0 : rows * m.dim);
  }

  T* panel(int64_t p) { return scores_.data() + p * m_ * width_; }
  int64_t panels() const { return ceil_div(rows_, width_); }
  int64_t documents_of(int64_t chunk) const {
    return std::min(chunk_documents, m_ - chunk * chunk_documents);
  }
  T& place(const Mark& mark) {
    return panel(mark.query / width_)[mark.document * width_ + mark.query % width_];
  }

  void parallel(int64_t n, const std::function<void(int64_t)>& task) {
    parallel_for(n, threads_, task, [this] { pulse_.ask(); });
  }

  // The scores of a block of queries with all documents, scaled; -inf for positives (whose scores
  // are kept apart) and for what is left out. And what each chunk holds of each query's softmax.
  void score_block(int64_t b) {
    first_ = b * block_;
    rows_ = std::min(block_, n_ - first_);
    int64_t stride;
    Buffer<T> wide = buffer_for(a_.queries, rows_);
    const T* x = rows(a_.queries, first_, rows_, wide.data(), stride);
    for (int64_t q = 0; q < rows_; ++q)
      std::copy_n(x + q * stride, dim_, queries_.data() + q * dim_);
    std::fill(queries_.data() + rows_ * dim_, queries_.data() + panels() * width_ * dim_, T(0));
    parallel(panels(), [&](int64_t p) {
      k_.pack_rows(queries_.data() + p * width_ * dim_, dim_, width_, dim_,
                   packed_.data() + p * width_ * dim_);
    });
    marks_ = std::make_unique<Marks>(a_, first_, rows_, chunk_documents);
    parallel(chunks_, [&](int64_t c) { score_chunk(c); });
  }

  void score_chunk(int64_t c) {
    if (pulse_.stopped()) return;
    const int64_t first = c * chunk_documents, n = documents_of(c);
    int64_t stride;
    Buffer<T> wide = buffer_for(a_.documents, n);
    const T* documents = rows(a_.documents, first, n, wide.data(), stride);
    for (int64_t p = 0; p < panels(); ++p)
      for (int64_t j = 0; j < dim_; j += depth)
        k_.multiply({documents + j, n, stride, 1, 0, std::min(depth, dim_ - j), 1,
                     packed_.data() + (p * dim_ + j) * width_, panel(p) + first * width_, width_,
                     width_, j > 0});
    const T nothing = -std::numeric_limits<T>::infinity();
    for (const Mark* mark = marks_->begin(c); mark != marks_->end(c); ++mark) {
      T& score = place(*mark);
      if (mark->positive >= 0)
        positive_scores_[static_cast<size_t>(mark->positive)] =
            static_cast<double>(score) * a_.scale;
      score = nothing;
    }
    for (int64_t q = rows_; q < panels() * width_; ++q)
      for (int64_t d = first; d < first + n; ++d)
        panel(q / width_)[d * width_ + q % width_] = nothing;
    for (int64_t p = 0; p < panels(); ++p)
      k_.fold_queries({panel(p) + first * width_, n, static_cast<T>(a_.scale),
                       most_.data() + c * block_ + p * width_,
                       sum_.data() + c * block_ + p * width_});
    pulse_.beat(1 / (passes_ * static_cast<double>(chunks_)));
  }

  void settle_queries() {
    std::vector<double> scores, gradients;
    for (int64_t q = 0; q < rows_; ++q) {
      LogSum others;
      for (int64_t c = 0; c < chunks_; ++c)
        others.add(most_[static_cast<size_t>(c * block_ + q)],
                   sum_[static_cast<size_t>(c * block_ + q)]);
      const int64_t query = first_ + q, begin = a_.positive_offsets[query];
      const double weight = a_.query_weights ? a_.query_weights[query] : 0;
      scores.assign(positive_scores_.data() + begin,
                    positive_scores_.data() + a_.positive_offsets[query + 1]);
      const Anchor anchor =
          a_.soft_targets ? settle_soft(a_.soft_targets + begin, others.log(), scores, gradients)
                          : settle(a_.each, others.log(), scores, gradients);
      a_.query_losses[query] = anchor.loss;
      shifts_[static_cast<size_t>(query)] = static_cast<T>(anchor.shift);
      weights_[static_cast<size_t>(query)] = weight_for(weight * a_.scale, anchor.shift);
      for (size_t p = 0; p < scores.size(); ++p)
        positive_gradients_[static_cast<size_t>(begin) + p] = weight * a_.scale * gradients[p];
    }
  }

  // With what rounding the shift to T takes from every e^(score - shift), so that the gradients of a
  // row still cancel.
  static T weight_for(double weight, double shift) {
    return static_cast<T>(weight * std::exp(static_cast<double>(static_cast<T>(shift)) - shift));
  }

  void fold_documents() {
    parallel(chunks_, [&](int64_t c) {
      const int64_t first = c * chunk_documents, n = documents_of(c);
      T most[chunk_documents], sum[chunk_documents];
      for (int64_t p = 0; p < panels(); ++p) {
        k_.fold_documents({panel(p) + first * width_, n, 1, most, sum});
        for (int64_t d = 0; d < n; ++d)
          document_sums_[static_cast<size_t>(first + d)].add(most[d], sum[d]);
      }
    });
  }

  void settle_documents() {
    std::vector<std::vector<int64_t>> owners(static_cast<size_t>(m_));
    for (int64_t p = 0; p < a_.positive_offsets[n_]; ++p)
      owners[static_cast<size_t>(a_.positives[p])].push_back(p);
    std::vector<double> scores, gradients;
    for (int64_t d = 0; d < m_; ++d) {
      const std::vector<int64_t>& own = owners[static_cast<size_t>(d)];
      a_.document_losses[d] = 0;
      if (own.empty()) continue;
      scores.clear();
      for (const int64_t p : own) scores.push_back(positive_scores_[static_cast<size_t>(p)]);
      const Anchor anchor =
          settle(a_.each, document_sums_[static_cast<size_t>(d)].log(), scores, gradients);
      const double weight = a_.document_weights ? a_.document_weights[d] * a_.scale : 0;
      a_.document_losses[d] = anchor.loss;
      document_shifts_[static_cast<size_t>(d)] = static_cast<T>(anchor.shift);
      document_weights_[static_cast<size_t>(d)] = weight_for(weight, anchor.shift);
      for (size_t i = 0; i < own.size(); ++i)
        positive_gradients_[static_cast<size_t>(own[i])] += weight * gradients[i];
    }
  }

  // Scores become their gradients; then both products.
  void differentiate() {
    const int64_t tiles = ceil_div(dim_, width_);
    if (a_.grad_documents)
      parallel(tiles, [&](int64_t t) {
        k_.pack_columns(queries_.data() + t * width_, dim_, panels() * width_,
                        std::min(width_, dim_ - t * width_), packed_.data() + t * block_ * width_);
      });
    parallel(chunks_, [&](int64_t c) { weigh_chunk(c); });
    if (a_.grad_queries)
      parallel(ceil_div(tiles, tile_group), [&](int64_t g) { fold_into_queries(g); });
  }

  void weigh_chunk(int64_t c) {
    const int64_t first = c * chunk_documents, n = documents_of(c);
    const bool both = a_.symmetric();
    for (int64_t p = 0; p < panels(); ++p)
      k_.weigh({panel(p) + first * width_, n, shifts_.data() + first_ + p * width_,
                weights_.data() + first_ + p * width_,
                both ? document_shifts_.data() + first : nullptr,
                both ? document_weights_.data() + first : nullptr});
    for (const Mark* mark = marks_->begin(c); mark != marks_->end(c); ++mark)
      if (mark->positive >= 0)
        place(*mark) = static_cast<T>(positive_gradients_[static_cast<size_t>(mark->positive)]);
    if (!a_.grad_documents) return;
    // [documents, queries] [queries, dim], as many panels at once as `depth` holds. Queries that pad
    // the last one have weight 0.
    const int64_t together = std::max<int64_t>(1, depth / width_);
    T* out = static_cast<T*>(a_.grad_documents) + first * dim_;
    for (int64_t j = 0; j < dim_; j += width_)
      for (int64_t p = 0; p < panels(); p += together)
        k_.multiply({panel(p) + first * width_, n, width_, std::min(together, panels() - p),
                     m_ * width_, width_, 1,
                     packed_.data() + (j / width_ * block_ + p * width_) * width_, out + j, dim_,
                     std::min(width_, dim_ - j), first_ + p > 0});
  }

  // A few tiles of columns of [queries, documents] [documents, dim].
  void fold_into_queries(int64_t group) {
    if (pulse_.stopped()) return;
    const int64_t begin = group * tile_group * width_;
    const int64_t end = std::min(dim_, begin + tile_group * width_);
    Buffer<T> wide = buffer_for(a_.documents, panel_depth);
    Buffer<T> tiles(tile_group * panel_depth * width_);
    T* out = static_cast<T*>(a_.grad_queries) + first_ * dim_;
    for (int64_t d = 0; d < m_; d += panel_depth) {
      const int64_t n = std::min(panel_depth, m_ - d);
      int64_t stride;
      const T* documents = rows(a_.documents, d, n, wide.data(), stride);
      for (int64_t j = begin; j < end; j += width_)
        k_.pack_columns(documents + j, stride, n, std::min(width_, dim_ - j),
                        tiles.data() + (j - begin) * panel_depth);
      for (int64_t p = 0; p < panels(); ++p)
        for (int64_t j = begin; j < end; j += width_)
          k_.multiply({panel(p) + d * width_, std::min(width_, rows_ - p * width_), 1, 1, 0, n,
                       width_, tiles.data() + (j - begin) * panel_depth,
                       out + p * width_ * dim_ + j, dim_, std::min(width_, dim_ - j), d > 0});
    }
  }

  const ContrastiveArgs& a_;
  const LossKernels<T>& k_;
  void (*widen_)(const Matrix&, int64_t, float*);
  int threads_;
  Pulse& pulse_;
  int64_t n_, m_, dim_, width_, block_, chunks_;
  int64_t first_ = 0, rows_ = 0;  // of the block of queries at hand
  double passes_ = 1;
  Buffer<T> queries_;                // [block][dim]
  Buffer<T> packed_;                 // the same, packed by rows, and later by columns
  Buffer<T> scores_;                 // panels [block / width][m][width]
  std::vector<T> most_, sum_;        // [chunks][block]
  std::vector<T> shifts_, weights_;  // [n], padded
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
    Contrastive<double>(a, row.loss_fp64, row.search.widen, threads, pulse).run();
  else
    Contrastive<float>(a, row.loss_fp32, row.search.widen, threads, pulse).run();
}

}  // namespace tilefold
