// Host half of the losses' ops.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "ops/arguments.h"
#include "check.h"
#include "cpu/host/contrastive.h"
#include "cpu/host/divergence.h"
#include "cpu/rows/table.h"
#include "ops/ops.h"
#include "parallel.h"

namespace tilefold::ops {
namespace {

// Documents of each query, of m.
Lists lists(const char* name, const View& offsets, const View& indices, int64_t n, int64_t m) {
  Lists l = {offsets.read<int64_t>(n + 1), nullptr};
  check(offsets.given() == indices.given(), name, " need both offsets and indices");
  if (!l.offsets) return l;
  l.indices = indices.read<int64_t>(indices.rows());
  check_offsets(name, l.offsets, n, indices.rows());
  for (int64_t i = 0; i < n; ++i)
    for (int64_t e = l.offsets[i]; e < l.offsets[i + 1]; ++e) {
      check(l.indices[e] >= 0 && l.indices[e] < m, name, " must be indices of documents, 0 to ",
            m - 1, ", got ", l.indices[e], " for query ", i);
      check(e == l.offsets[i] || l.indices[e - 1] < l.indices[e], name, " of query ", i,
            " must rise without repeating, got ", l.indices[e], " after ",
            l.indices[e > 0 ? e - 1 : 0]);
    }
  return l;
}

// Where the gradient of vectors goes, or null: fp64 for fp64, fp32 for all others.
void* gradient_of(const Matrix& m, const View& gradient) {
  if (m.dtype == Dtype::f64) return gradient.write_if_given<double>(m.rows * m.dim);
  return gradient.write_if_given<float>(m.rows * m.dim);
}

// The largest magnitude; NaN and infinities are beyond all numbers.
double largest_of(const float* x, int64_t n) {
  int32_t most = 0;  // magnitudes are ordered like the bits of numbers without their sign
  for (int64_t j = 0; j < n; ++j) {
    int32_t bits;
    std::memcpy(&bits, x + j, sizeof bits);
    most = std::max(most, bits & 0x7fffffff);
  }
  float value;
  std::memcpy(&value, &most, sizeof value);
  return static_cast<double>(value);
}

double largest_of(const double* x, int64_t n) {
  double most = 0;
  for (int64_t j = 0; j < n; ++j) {
    if (!std::isfinite(x[j])) return std::numeric_limits<double>::infinity();
    most = std::max(most, std::abs(x[j]));
  }
  return most;
}

// The largest magnitude of vectors, all of which are finite.
double check_finite(const char* name, const Matrix& m, int threads) {
  constexpr int64_t together = 256;
  const int64_t tasks = (m.rows + together - 1) / together;
  std::vector<double> most(static_cast<size_t>(tasks));
  std::vector<int64_t> bad(static_cast<size_t>(tasks), m.rows);
  parallel_for(tasks, m.rows * m.dim < (1 << 21) ? 1 : threads, [&](int64_t t) {
    std::vector<float> wide(m.dtype == Dtype::f32 ? 0 : static_cast<size_t>(padded_dim(m.dim)));
    const size_t at = static_cast<size_t>(t);
    for (int64_t r = t * together; r < m.rows && r < (t + 1) * together; ++r) {
      double of_row;
      if (m.dtype == Dtype::f64) {
        of_row = largest_of(static_cast<const double*>(m.data) + r * m.row_stride, m.dim);
      } else if (m.dtype == Dtype::f32) {
        of_row = largest_of(static_cast<const float*>(m.data) + r * m.row_stride, m.dim);
      } else {
        active_row().search.widen(m, r, wide.data());
        of_row = largest_of(wide.data(), m.dim);
      }
      if (std::isfinite(of_row))
        most[at] = std::max(most[at], of_row);
      else
        bad[at] = std::min(bad[at], r);
    }
  });
  const int64_t first = tasks ? *std::min_element(bad.begin(), bad.end()) : m.rows;
  check(first == m.rows, name, " have a NaN or an infinity in row ", first);
  return tasks ? *std::max_element(most.begin(), most.end()) : 0;
}

// Scores beyond fp32 would be infinite, and NaN where they cancel.
void check_scores(const char* op, const Matrix& queries, double largest_query,
                  double largest_document, double scale) {
  if (queries.dtype == Dtype::f64) return;
  const double most = largest_query * largest_document * static_cast<double>(queries.dim);
  check(most * std::max(scale, 1.0) < 3e38, op, ": scores may reach ", most * scale,
        ", beyond float32; scale embeddings down or pass float64");
}

}  // namespace

namespace {

IdentityArgs identity(const ContrastiveViews& v, int64_t n, int64_t m) {
  IdentityArgs a = {};
  a.groups = v.groups.read<int64_t>(n);
  if (!a.groups) return a;
  const int64_t groups = v.group_offsets.rows() - 1, listed = v.group_ids.rows();
  a.ids = {v.group_offsets.read<int64_t>(groups + 1), v.group_ids.read<int64_t>(listed)};
  check(groups >= 0, "contrastive_loss: group offsets must not be empty");
  check_offsets("contrastive_loss: group", a.ids.offsets, groups, listed);
  for (int64_t i = 0; i < n; ++i)
    check(a.groups[i] >= 0 && a.groups[i] < groups, "contrastive_loss: groups must be 0 to ",
          groups - 1, ", got ", a.groups[i], " for query ", i);
  a.document_ids = v.document_ids.read<int64_t>(m);
  check(a.document_ids, "contrastive_loss: groups need document ids");
  return a;
}

}  // namespace

void contrastive(const ContrastiveViews& v, double scale, bool each, int threads, Pulse& pulse) {
  ContrastiveArgs a = {};
  a.queries = v.queries.matrix(View::Doubles::taken);
  a.documents = v.documents.matrix(View::Doubles::taken);
  a.scale = scale;
  a.each = each;
  const int64_t n = a.queries.rows, m = a.documents.rows, dim = a.queries.dim;
  check(dim == a.documents.dim, "contrastive_loss: queries have dim ", dim,
        " but documents have dim ", a.documents.dim);
  check_type(a.queries.dtype == a.documents.dtype && a.queries.dtype != Dtype::i8,
             "contrastive_loss: queries and documents must have one floating-point dtype");
  check(std::isfinite(scale) && scale > 0, "contrastive_loss: scale must be positive, got ", scale);
  a.positives = lists("contrastive_loss: positives", v.positive_offsets, v.positives, n, m);
  check(a.positives.offsets, "contrastive_loss: positives must be given");
  for (int64_t i = 0; i < n; ++i)
    check(a.positives.offsets[i] < a.positives.offsets[i + 1], "contrastive_loss: query ", i,
          " has no positive");
  a.soft_targets = v.soft_targets.read<double>(v.positives.rows());
  check(!(a.soft_targets && v.document_losses.given()),
        "contrastive_loss: soft targets have no symmetric form");
  a.excluded = lists("contrastive_loss: exclude", v.exclude_offsets, v.excluded, n, m);
  a.identity = identity(v, n, m);
  a.query_losses = v.query_losses.write<double>(n);
  a.document_losses = v.document_losses.write_if_given<double>(m);
  a.query_weights = v.query_weights.read<double>(n);
  a.document_weights = v.document_weights.read<double>(m);
  a.grad_queries = gradient_of(a.queries, v.grad_queries);
  a.grad_documents = gradient_of(a.documents, v.grad_documents);
  threads = threads_of("contrastive_loss", threads);
  check(v.gate_queries.given() == v.gate_documents.given(),
        "contrastive_loss: gates need both queries and documents");
  check(v.document_losses.given() || !v.document_weights.given(),
        "contrastive_loss: document weights need document losses");
  if (v.gate_queries.given()) {
    const Matrix& q = a.gate_queries = v.gate_queries.matrix(View::Doubles::taken);
    const Matrix& d = a.gate_documents = v.gate_documents.matrix(View::Doubles::taken);
    check(q.rows == n && d.rows == m && q.dim == d.dim, "contrastive_loss: gates must be of ", n,
          " queries and ", m, " documents of one dim, got ", q.rows, " and ", d.rows, " of dims ",
          q.dim, " and ", d.dim);
    const auto doubles = [](const Matrix& x) { return x.dtype == Dtype::f64; };
    check_type(q.dtype == d.dtype && q.dtype != Dtype::i8 && doubles(q) == doubles(a.queries),
               "contrastive_loss: gates must have the dtype of queries and documents");
    const double of_q = check_finite("contrastive_loss: queries of gates", q, threads);
    const double of_d = check_finite("contrastive_loss: documents of gates", d, threads);
    check_scores("contrastive_loss: gates", q, of_q, of_d, 1);
  }
  const double q = check_finite("contrastive_loss: queries", a.queries, threads);
  const double d = check_finite("contrastive_loss: documents", a.documents, threads);
  check_scores("contrastive_loss", a.queries, q, d, scale);
  tilefold::contrastive(a, active_row(), threads, pulse);
}

namespace {

ScoreView score_view(const std::string& op, const ScoreViewViews& v, int threads) {
  const std::string queries = op + ": queries" + v.name, documents = op + ": documents" + v.name;
  ScoreView s = {};
  s.queries = v.queries.matrix(View::Doubles::taken);
  s.documents = v.documents.matrix(View::Doubles::taken);
  s.scale = v.scale;
  const int64_t n = s.queries.rows, m = s.documents.rows, dim = s.queries.dim;
  check(dim == s.documents.dim, queries, " have dim ", dim, " but documents have dim ",
        s.documents.dim);
  check(n >= 1 && m >= 1, queries, " and documents must have at least 1 row, got ", n, " and ", m);
  check_type(s.queries.dtype == s.documents.dtype && s.queries.dtype != Dtype::i8, queries,
             " and documents must have one floating-point dtype");
  check(std::isfinite(v.scale) && v.scale > 0, op, ": scale must be positive, got ", v.scale);
  s.grad_queries = gradient_of(s.queries, v.grad_queries);
  s.grad_documents = gradient_of(s.documents, v.grad_documents);
  const double q = check_finite(queries.c_str(), s.queries, threads);
  const double d = check_finite(documents.c_str(), s.documents, threads);
  check_scores(op.c_str(), s.queries, q, d, s.scale);
  return s;
}

}  // namespace

void divergence(const std::string& op, const DivergenceViews& v, int reference, bool mixture_first,
                int threads, Pulse& pulse) {
  threads = threads_of(op.c_str(), threads);
  check(!v.of_views.empty() && v.of_views.size() <= 256, op, ": expected 1 to 256 views, got ",
        v.of_views.size());
  std::vector<ScoreView> views;
  for (const ScoreViewViews& of_view : v.of_views)
    views.push_back(score_view(op, of_view, threads));
  const int64_t n = views[0].queries.rows, m = views[0].documents.rows;
  const bool doubles = views[0].queries.dtype == Dtype::f64;
  for (const ScoreView& s : views) {
    check(s.queries.rows == n && s.documents.rows == m, op, ": views must have ", n,
          " queries and ", m, " documents, got ", s.queries.rows, " and ", s.documents.rows);
    check_type((s.queries.dtype == Dtype::f64) == doubles, op,
               ": views must be all of float64 or none");
  }
  DivergenceArgs a = {};
  a.views = views.data();
  a.n_views = static_cast<int>(views.size());
  check(reference >= -1 && reference < a.n_views, op, ": reference must be -1 to ", a.n_views - 1,
        ", got ", reference);
  a.reference = reference;
  a.mixture_first = mixture_first;
  a.excluded = lists((op + ": exclude").c_str(), v.exclude_offsets, v.excluded, n, m);
  a.listed = lists((op + ": listed").c_str(), v.listed_offsets, v.listed, n, m);
  check(mixture_first || !a.listed.offsets, op, ": lists are for mixture_first");
  a.weights = v.weights.read<double>(a.n_views * n);
  a.divergences = v.divergences.write<double>(a.n_views * n);
  a.masses = v.masses.write<double>(n);
  a.variances = v.variances.write<double>(n);
  tilefold::divergence(a, active_row(), threads, pulse);
}

}  // namespace tilefold::ops
