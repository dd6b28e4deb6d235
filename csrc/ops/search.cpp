#include "ops/search.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "check.h"
#include "kernels.h"
#include "ops/arguments.h"

namespace tilefold::ops {
namespace {

// Reads a unit vector [dim], and sets an upper bound of the difference of its squared norm from 1.
const float* read_direction(const char* op, const View& view, int64_t dim, double& defect) {
  constexpr double max_defect = 0x1p-10;
  const float* direction = view.read<float>(dim);
  if (!direction || !host_readable(view.device())) return direction;
  double squares = 0;
  for (int64_t j = 0; j < dim; ++j) squares += static_cast<double>(direction[j]) * direction[j];
  defect = std::fabs(squares - 1) + 0x1p-36;
  check(defect <= max_defect, op, ": direction must be a unit vector, got one of squared norm ",
        squares);
  return direction;
}

void read_packed(const SearchRequest& r, SearchArgs& a) {
  check(r.codes.given() == r.bounds.given(), "search: codes and bounds must be given together");
  check(r.codes.given() || !r.direction.given(), "search: direction needs codes");
  if (!r.codes.given()) return;
  check(a.documents.dim <= max_packed_dim,
        "search: codes are of documents with dim <= ", max_packed_dim, ", got ", a.documents.dim);
  const int64_t blocks = block_count(a.documents.rows);
  a.packed.codes = r.codes.read<uint8_t>(saturated_product(blocks, block_bytes(a.documents.dim)));
  a.packed.bounds = r.bounds.read<float>(saturated_product(blocks, block_bounds));
  a.packed.direction =
      read_direction("search", r.direction, a.documents.dim, a.packed.direction_defect);
  a.packed.rotated = r.rotated;
}

void read_filters(const SearchRequest& r, SearchArgs& a, Places& exclude_offsets) {
  const int64_t n = a.queries.rows;
  a.allowed = r.allowed.read<uint32_t>(block_count(a.documents.rows));
  check(r.exclude_offsets.given() == r.exclude_ids.given(),
        "search: exclude needs both offsets and ids");
  exclude_offsets = Places(r.exclude_offsets, n + 1);
  a.exclude_offsets = exclude_offsets.data();
  if (exclude_offsets.given()) {
    a.exclude_ids = r.exclude_ids.read<int64_t>(r.exclude_ids.rows());
    if (host_readable(a.device))
      check_offsets("search: exclude", a.exclude_offsets, n, r.exclude_ids.rows());
  }
  a.min_score = r.min_score.read<float>(n);
  a.max_score = r.max_score.read<float>(n);
}

}  // namespace

void search(const SearchRequest& r, Pulse& pulse) {
  const Op<SearchArgs> run = find_op(&Implementation::search, "search", r.queries);
  SearchArgs a = {};
  a.device = r.queries.device();
  a.queries = r.queries.matrix();
  a.documents = r.documents.matrix();
  a.k = r.k;
  a.first_id = r.first_id;
  const int64_t n = a.queries.rows;
  check(a.queries.dim == a.documents.dim, "search: queries have dim ", a.queries.dim,
        " but documents have dim ", a.documents.dim);
  check((a.queries.dtype == Dtype::i8) == (a.documents.dtype == Dtype::i8),
        "search: int8 is searched with int8 only; convert queries and documents to one dtype");
  check(a.k >= 1, "search: k must be at least 1, got ", a.k);
  check(a.k <= (int64_t{1} << 31) - 64, "search: k must be below 2^31, got ", a.k);
  a.scores = r.scores.write<float>(saturated_product(n, a.k));
  a.ids = r.ids.write<int64_t>(saturated_product(n, a.k));
  read_packed(r, a);
  a.document_ids = r.document_ids.read<int64_t>(a.documents.rows);
  const int64_t last_row = std::max<int64_t>(0, a.documents.rows - 1);
  check(a.first_id >= 0 && a.first_id <= std::numeric_limits<int64_t>::max() - last_row,
        "search: first_id must be 0 or more and ids below 2^63, got ", a.first_id);
  Places exclude_offsets;
  read_filters(r, a, exclude_offsets);
  a.refined = r.refined.write_if_given<int64_t>(n);
  a.pruned_bound = r.pruned_bound.write_if_given<float>(n);
  run(a, thread_count("search", r.num_threads), pulse);
}

void pack(const PackRequest& r, Pulse& pulse) {
  const Op<PackArgs> run = find_op(&Implementation::pack, "pack", r.documents);
  PackArgs a = {};
  a.device = r.documents.device();
  a.documents = r.documents.matrix();
  double defect = 0;
  a.direction = read_direction("pack", r.direction, a.documents.dim, defect);
  a.rotate = r.rotate;
  const int64_t blocks = block_count(a.documents.rows);
  check(a.documents.dim <= max_packed_dim, "pack: documents must have dim <= ", max_packed_dim,
        ", got ", a.documents.dim);
  a.codes = r.codes.write<uint8_t>(saturated_product(blocks, block_bytes(a.documents.dim)));
  a.bounds = r.bounds.write<float>(saturated_product(blocks, block_bounds));
  a.finite = r.finite.write<uint32_t>(blocks);
  a.radius_sum = r.radius_sum.write_if_given<double>(blocks);
  run(a, thread_count("pack", r.num_threads), pulse);
}

void finite_rows(const FiniteRowsRequest& r, Pulse& pulse) {
  const Op<FiniteRowsArgs> run = find_op(&Implementation::finite_rows, "finite_rows", r.vectors);
  FiniteRowsArgs a = {};
  a.device = r.vectors.device();
  a.vectors = r.vectors.matrix();
  a.finite = r.finite.write<uint8_t>(a.vectors.rows);
  run(a, thread_count("finite_rows", r.num_threads), pulse);
}

void score(const ScoreRequest& r, Pulse& pulse) {
  const Op<ScoreArgs> run = find_op(&Implementation::score, "score", r.queries);
  ScoreArgs a = {};
  a.device = r.queries.device();
  a.queries = r.queries.matrix();
  a.documents = r.documents.matrix();
  a.canonical = r.canonical;
  const int64_t n = a.queries.rows;
  check(a.queries.dim == a.documents.dim, "score: queries have dim ", a.queries.dim,
        " but documents have dim ", a.documents.dim);
  const int64_t size = r.rows.size();
  a.m = n > 0 ? size / n : 0;
  const Places rows(r.rows, n * a.m);
  a.rows = rows.data();
  a.scores = r.scores.write<float>(n * a.m);
  for (int64_t i = 0; host_readable(a.device) && i < size; ++i)
    check(a.rows[i] >= 0 && a.rows[i] < a.documents.rows, "score: rows must be 0 to ",
          a.documents.rows - 1, ", got ", a.rows[i]);
  run(a, thread_count("score", r.num_threads), pulse);
}

}  // namespace tilefold::ops
