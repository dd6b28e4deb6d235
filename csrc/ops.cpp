#include "ops.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "candidates.h"
#include "check.h"
#include "contrastive.h"
#include "divergence.h"
#include "kernels.h"
#include "parallel.h"
#include "search.h"

namespace tilefold::ops {
namespace {

int threads_of(const char* op, int threads) {
  if (threads == 0) return num_threads();
  check(threads >= 1 && threads <= 1024, op, ": num_threads must be 1 to 1024, got ", threads);
  return threads;
}

// CSR offsets over `size` entries; `name` is the op and the argument.
void check_offsets(const char* name, const int64_t* offsets, int64_t n, int64_t size) {
  check(offsets[0] == 0, name, " offsets must begin with 0, got ", offsets[0]);
  for (int64_t i = 0; i < n; ++i)
    check(offsets[i] <= offsets[i + 1], name, " offsets must not decrease, but offsets[", i + 1,
          "] = ", offsets[i + 1], " is below ", offsets[i]);
  check(offsets[n] == size, name, " offsets must end with the number of ids, ", size, ", got ",
        offsets[n]);
}

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

void search(const SearchViews& v, int64_t k, bool rotated, int64_t first_id, int threads,
            Pulse& pulse) {
  SearchArgs a = {};
  a.queries = v.queries.matrix();
  a.documents = v.documents.matrix();
  a.k = k;
  a.first_id = first_id;
  const int64_t n = a.queries.rows, blocks = block_count(a.documents.rows);
  check(a.queries.dim == a.documents.dim, "search: queries have dim ", a.queries.dim,
        " but documents have dim ", a.documents.dim);
  check((a.queries.dtype == Dtype::i8) == (a.documents.dtype == Dtype::i8),
        "search: int8 is searched with int8 only; convert queries and documents to one dtype");
  check(k >= 1, "search: k must be at least 1, got ", k);
  check(k <= (int64_t{1} << 31) - 64, "search: k must be below 2^31, got ", k);
  a.scores = v.scores.write<float>(n * k);
  a.ids = v.ids.write<int64_t>(n * k);
  a.packed.codes = v.codes.read<uint8_t>(blocks * block_bytes(a.documents.dim));
  a.packed.bounds = v.bounds.read<float>(blocks * block_bounds);
  check(v.codes.given() == v.bounds.given(), "search: codes and bounds must be given together");
  a.packed.rotated = rotated;
  a.document_ids = v.document_ids.read<int64_t>(a.documents.rows);
  a.allowed = v.allowed.read<uint32_t>(blocks);
  a.exclude_offsets = v.exclude_offsets.read<int64_t>(n + 1);
  if (a.exclude_offsets) {
    a.exclude_ids = v.exclude_ids.read<int64_t>(v.exclude_ids.rows());
    check_offsets("search: exclude", a.exclude_offsets, n, v.exclude_ids.rows());
  }
  a.min_score = v.min_score.read<float>(n);
  a.max_score = v.max_score.read<float>(n);
  a.refined = v.refined.write_if_given<int64_t>(n);
  a.pruned_bound = v.pruned_bound.write_if_given<float>(n);
  tilefold::search(a, active_row(), threads_of("search", threads), pulse);
}

void pack(const PackViews& v, bool rotate, int threads, Pulse& pulse) {
  PackArgs a = {};
  a.documents = v.documents.matrix();
  a.rotate = rotate;
  const int64_t blocks = block_count(a.documents.rows);
  check(a.documents.dim <= max_packed_dim, "pack: documents must have dim <= ", max_packed_dim,
        ", got ", a.documents.dim);
  a.codes = v.codes.write<uint8_t>(blocks * block_bytes(a.documents.dim));
  a.bounds = v.bounds.write<float>(blocks * block_bounds);
  a.finite = v.finite.write<uint32_t>(blocks);
  a.radius_sum = v.radius_sum.write_if_given<double>(blocks);
  const SearchKernels& kernels = active_row().search;
  constexpr int64_t together = 32;  // blocks per task: 1,024 documents
  const int64_t tasks = (blocks + together - 1) / together;
  parallel_for(
      tasks, threads_of("pack", threads),
      [&](int64_t t) {
        for (int64_t b = t * together; b < blocks && b < (t + 1) * together; ++b) {
          if (pulse.stopped()) return;
          kernels.pack_documents(a, b);
        }
        pulse.beat(1.0 / static_cast<double>(tasks));
      },
      [&] { pulse.ask(); });
}

void finite_rows(const View& vectors, const View& finite, int threads) {
  const Matrix m = vectors.matrix();
  uint8_t* out = finite.write<uint8_t>(m.rows);
  const SearchKernels& kernels = active_row().search;
  constexpr int64_t together = 1024;
  parallel_for((m.rows + together - 1) / together, threads_of("finite_rows", threads),
               [&](int64_t t) {
                 std::vector<float> x(static_cast<size_t>(padded_dim(m.dim)));
                 for (int64_t r = t * together; r < m.rows && r < (t + 1) * together; ++r) {
                   kernels.widen(m, r, x.data());
                   out[r] = kernels.finite(x.data(), m.dim);
                 }
               });
}

int64_t list_bytes(int64_t k) {
  check(k >= 1, "list_bytes: k must be at least 1, got ", k);
  return Candidates::bytes_for(k, std::numeric_limits<int64_t>::max());
}

void score(const View& queries, const View& documents, const View& rows, const View& scores,
           bool canonical, int threads) {
  const Matrix q = queries.matrix(), d = documents.matrix();
  check(q.dim == d.dim, "score: queries have dim ", q.dim, " but documents have dim ", d.dim);
  const int64_t size = rows.size(), m = q.rows > 0 ? size / q.rows : 0;
  const int64_t* wanted = rows.read<int64_t>(q.rows * m);
  float* const out = scores.write<float>(q.rows * m);
  for (int64_t i = 0; i < size; ++i)
    check(wanted[i] >= 0 && wanted[i] < d.rows, "score: rows must be 0 to ", d.rows - 1, ", got ",
          wanted[i]);
  const SearchKernels& kernels = active_row().search;
  threads = static_cast<double>(size) * d.dim < 1e6 ? 1 : threads_of("score", threads);
  parallel_for(q.rows, threads, [&](int64_t i) {
    std::vector<float> wide(static_cast<size_t>(q.dim));
    kernels.widen(q, i, wide.data());
    if (!canonical) return kernels.estimate({wide.data(), d, wanted + i * m, m, out + i * m});
    const std::vector<double> exact(wide.begin(), wide.end());
    kernels.score({exact.data(), d, wanted + i * m, 0, m, out + i * m});
  });
}

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
  if (a.queries.dtype == Dtype::f64) {
    a.grad_queries = v.grad_queries.write_if_given<double>(n * dim);
    a.grad_documents = v.grad_documents.write_if_given<double>(m * dim);
  } else {
    a.grad_queries = v.grad_queries.write_if_given<float>(n * dim);
    a.grad_documents = v.grad_documents.write_if_given<float>(m * dim);
  }
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
    check_finite("contrastive_loss: queries of gates", q, threads);
    check_finite("contrastive_loss: documents of gates", d, threads);
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
  if (s.queries.dtype == Dtype::f64) {
    s.grad_queries = v.grad_queries.write_if_given<double>(n * dim);
    s.grad_documents = v.grad_documents.write_if_given<double>(m * dim);
  } else {
    s.grad_queries = v.grad_queries.write_if_given<float>(n * dim);
    s.grad_documents = v.grad_documents.write_if_given<float>(m * dim);
  }
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

void tile(const View& codes, const View& queries, const View& products, int64_t rounds) {
  // queries arrive as [dim / 4][n][4], codes as [dim / 4][32][4]
  const SearchKernels& kernels = active_row().search;
  const int64_t dim = codes.rows() * 4;
  const uint8_t* block = codes.read<uint8_t>(dim * block_rows);
  const int64_t n = products.rows();
  check(n >= 1 && n <= kernels.query_tile, "tile: expected 1 to ", kernels.query_tile,
        " queries, got ", n);
  check(dim % 8 == 0, "tile: dim must be a multiple of 8, got ", dim);
  const int8_t* query_codes = queries.read<int8_t>(dim * n);
  int32_t* out = products.write<int32_t>(n * block_rows);
  std::vector<uint8_t> scratch(static_cast<size_t>(dim * block_rows + 64));
  uint8_t* aligned = scratch.data() + (64 - reinterpret_cast<uintptr_t>(scratch.data()) % 64) % 64;
  std::copy_n(block, dim * block_rows, aligned);
  const uint8_t* ready = kernels.tile_codes(aligned, dim, aligned);
  for (int64_t r = 0; r < rounds; ++r)
    kernels.tile(ready, query_codes, static_cast<int>(n), dim, out);
}

double peak(const std::string& kind) {
  check(kind == "fp32" || kind == "int8", "peak: kind must be fp32 or int8, got ", kind);
  const PeakKernels& kernels = active_row().peak;
  const auto run = kind == "fp32" ? kernels.fp32 : kernels.int8;
  run(100000);
  const auto begin = std::chrono::steady_clock::now();
  const double operations = run(4000000);
  const std::chrono::duration<double> time = std::chrono::steady_clock::now() - begin;
  return operations / time.count();
}

}  // namespace tilefold::ops
