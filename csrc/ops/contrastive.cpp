#include <cmath>

#include "check.h"
#include "kernels.h"
#include "ops/arguments.h"
#include "ops/embeddings.h"
#include "ops/lists.h"
#include "ops/losses.h"

namespace tilefold::ops {
namespace {

// The places that the contract points to.
struct Memory {
  OwnLists positives, excluded;
  Places groups, group_offsets;
};

IdExclusion read_excluded_ids(const ContrastiveRequest& r, const ContrastiveArgs& a, Memory& own) {
  IdExclusion e = {};
  if (!r.groups.given()) return e;
  const int64_t n = a.queries.rows, groups = r.group_offsets.rows() - 1;
  const int64_t n_ids = r.group_ids.rows();
  check(groups >= 0, "contrastive_loss: group offsets must not be empty");
  own.groups = Places(r.groups, n);
  own.group_offsets = Places(r.group_offsets, groups + 1);
  e.groups = own.groups.data();
  e.ids = {own.group_offsets.data(), r.group_ids.read<int64_t>(n_ids), n_ids};
  e.document_ids = r.document_ids.read<int64_t>(a.documents.rows);
  check(r.document_ids.given(), "contrastive_loss: groups need document ids");
  if (!host_readable(a.device)) return e;
  check_offsets("contrastive_loss: group", e.ids.offsets, groups, n_ids);
  for (int64_t i = 0; i < n; ++i)
    check(e.groups[i] >= 0 && e.groups[i] < groups, "contrastive_loss: groups must be 0 to ",
          groups - 1, ", got ", e.groups[i], " for query ", i);
  return e;
}

void read_positives(const ContrastiveRequest& r, ContrastiveArgs& a, Memory& own) {
  const int64_t n = a.queries.rows, m = a.documents.rows;
  own.positives = read_lists("contrastive_loss: positives", r.positive_offsets, r.positives, n, m);
  check(own.positives.given(), "contrastive_loss: positives must be given");
  a.positives = own.positives.lists();
  for (int64_t i = 0; host_readable(a.device) && i < n; ++i)
    check(a.positives.offsets[i] < a.positives.offsets[i + 1], "contrastive_loss: query ", i,
          " has no positive");
  a.soft_targets = r.soft_targets.read<double>(r.positives.rows());
  check(!(a.soft_targets && r.document_losses.given()),
        "contrastive_loss: soft targets have no symmetric form");
}

void read_losses(const ContrastiveRequest& r, ContrastiveArgs& a) {
  const int64_t n = a.queries.rows, m = a.documents.rows;
  a.query_losses = r.query_losses.write<double>(n);
  a.document_losses = r.document_losses.write_if_given<double>(m);
  a.query_weights = r.query_weights.read<double>(n);
  a.document_weights = r.document_weights.read<double>(m);
  check(r.document_losses.given() || !r.document_weights.given(),
        "contrastive_loss: document weights need document losses");
  check(r.query_weights.given() || !(r.grad_queries.given() || r.grad_documents.given()),
        "contrastive_loss: gradients need query weights");
  a.grad_queries = gradient_pointer(a.queries, r.grad_queries);
  a.grad_documents = gradient_pointer(a.documents, r.grad_documents);
}

void read_gates(const ContrastiveRequest& r, ContrastiveArgs& a) {
  check(r.gate_queries.given() == r.gate_documents.given(),
        "contrastive_loss: gates need both queries and documents");
  if (!r.gate_queries.given()) return;
  const Matrix& q = a.gate_queries = r.gate_queries.matrix(View::Float64::accepted);
  const Matrix& d = a.gate_documents = r.gate_documents.matrix(View::Float64::accepted);
  const int64_t n = a.queries.rows, m = a.documents.rows;
  check(q.rows == n && d.rows == m && q.dim == d.dim, "contrastive_loss: gates must be of ", n,
        " queries and ", m, " documents of one dim, got ", q.rows, " and ", d.rows, " of dims ",
        q.dim, " and ", d.dim);
  const auto fp64 = [](const Matrix& x) { return x.dtype == Dtype::f64; };
  check_type(q.dtype == d.dtype && q.dtype != Dtype::i8 && fp64(q) == fp64(a.queries),
             "contrastive_loss: gates must have the dtype of queries and documents");
}

void check_all_values(const ContrastiveArgs& a, int threads, Pulse& pulse) {
  if (a.gated())
    check_values({"contrastive_loss", "queries of gates", "documents of gates", "gates: scores"},
                 a.gate_queries, a.gate_documents, 1, a.device, threads, pulse);
  check_values({"contrastive_loss", "queries", "documents"}, a.queries, a.documents, a.scale,
               a.device, threads, pulse);
}

}  // namespace

void contrastive(const ContrastiveRequest& r, Pulse& pulse) {
  const Op<ContrastiveArgs> run =
      find_op(&Implementation::contrastive, "contrastive_loss", r.queries);
  ContrastiveArgs a = {};
  Memory own;
  a.device = r.queries.device();
  a.queries = r.queries.matrix(View::Float64::accepted);
  a.documents = r.documents.matrix(View::Float64::accepted);
  a.scale = r.scale;
  a.per_positive = r.each;
  check_pair({"contrastive_loss", "queries", "documents"}, a.queries, a.documents);
  check(std::isfinite(a.scale) && a.scale > 0, "contrastive_loss: scale must be positive, got ",
        a.scale);
  read_positives(r, a, own);
  own.excluded = read_lists("contrastive_loss: exclude", r.exclude_offsets, r.excluded,
                            a.queries.rows, a.documents.rows);
  a.excluded = own.excluded.lists();
  a.excluded_ids = read_excluded_ids(r, a, own);
  read_losses(r, a);
  read_gates(r, a);
  const int threads = thread_count("contrastive_loss", r.num_threads);
  check_all_values(a, threads, pulse);
  run(a, threads, pulse);
}

}  // namespace tilefold::ops
