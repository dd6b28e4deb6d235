#include <cmath>

#include "check.h"
#include "kernels.h"
#include "ops/arguments.h"
#include "ops/embeddings.h"
#include "ops/lists.h"
#include "ops/losses.h"

namespace tilefold::ops {
namespace {

ScoreView read_view(const std::string& op, const ScoreViewRequest& r, int threads, Pulse& pulse) {
  const EmbeddingPair names = {op, std::string("queries") + r.name, "documents" + r.name};
  ScoreView s = {};
  s.queries = r.queries.matrix(View::Float64::accepted);
  s.documents = r.documents.matrix(View::Float64::accepted);
  s.scale = r.scale;
  check_pair(names, s.queries, s.documents);
  check(s.queries.rows >= 1 && s.documents.rows >= 1, op, ": ", names.queries,
        " and documents must have at least 1 row, got ", s.queries.rows, " and ", s.documents.rows);
  check(std::isfinite(s.scale) && s.scale > 0, op, ": scale must be positive, got ", s.scale);
  s.grad_queries = gradient_pointer(s.queries, r.grad_queries);
  s.grad_documents = gradient_pointer(s.documents, r.grad_documents);
  check_values(names, s.queries, s.documents, s.scale, r.queries.device(), threads, pulse);
  return s;
}

std::vector<ScoreView> read_views(const DivergenceRequest& r, int threads, Pulse& pulse) {
  std::vector<ScoreView> views;
  for (const ScoreViewRequest& view : r.views)
    views.push_back(read_view(r.op, view, threads, pulse));
  const int64_t n = views[0].queries.rows, m = views[0].documents.rows;
  const bool fp64 = views[0].queries.dtype == Dtype::f64;
  for (const ScoreView& s : views) {
    check(s.queries.rows == n && s.documents.rows == m, r.op, ": views must have ", n,
          " queries and ", m, " documents, got ", s.queries.rows, " and ", s.documents.rows);
    check_type((s.queries.dtype == Dtype::f64) == fp64, r.op,
               ": views must be all of float64 or none");
  }
  return views;
}

}  // namespace

void divergence(const DivergenceRequest& r, Pulse& pulse) {
  const int threads = thread_count(r.op.c_str(), r.num_threads);
  check(!r.views.empty() && r.views.size() <= 256, r.op, ": expected 1 to 256 views, got ",
        r.views.size());
  const Op<DivergenceArgs> run =
      find_op(&Implementation::divergence, r.op.c_str(), r.views[0].queries);
  const std::vector<ScoreView> views = read_views(r, threads, pulse);
  const int64_t n = views[0].queries.rows, m = views[0].documents.rows;
  DivergenceArgs a = {};
  a.device = r.views[0].queries.device();
  a.views = views.data();
  a.n_views = static_cast<int>(views.size());
  a.reference = r.reference;
  check(a.reference >= -1 && a.reference < a.n_views, r.op, ": reference must be -1 to ",
        a.n_views - 1, ", got ", a.reference);
  a.mixture_first = r.mixture_first;
  const OwnLists excluded =
      read_lists((r.op + ": exclude").c_str(), r.exclude_offsets, r.excluded, n, m);
  const OwnLists listed = read_lists((r.op + ": listed").c_str(), r.listed_offsets, r.listed, n, m);
  a.excluded = excluded.lists();
  a.listed = listed.lists();
  check(a.mixture_first || !listed.given(), r.op, ": lists are for mixture_first");
  a.weights = r.weights.read<double>(a.n_views * n);
  for (const ScoreView& s : views)
    check(r.weights.given() || !(s.grad_queries || s.grad_documents), r.op,
          ": gradients need weights");
  a.divergences = r.divergences.write<double>(a.n_views * n);
  a.masses = r.masses.write<double>(n);
  a.variances = r.variances.write<double>(n);
  run(a, threads, pulse);
}

}  // namespace tilefold::ops
