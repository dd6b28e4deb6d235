// Binds the search ops.
#include "ops/search.h"

#include "bind/bind.h"
#include "bind/call.h"
#include "contract/search.h"

namespace tilefold::bind {
namespace {

void define_search_op(py::module_& m) {
  using Request = ops::SearchRequest;
  define<Request>(m, "search", "Updates the answers scores, ids [n, k] with documents.",
                  &ops::search,
                  positional(array(FIELD(queries)), array(FIELD(documents)), array(FIELD(scores)),
                             array(FIELD(ids)), value(FIELD(k))),
                  keywords(optional_array(FIELD(codes)), optional_array(FIELD(bounds)),
                           optional_array(FIELD(direction)), value(FIELD(rotated), false),
                           optional_array(FIELD(document_ids)), value(FIELD(first_id), int64_t{0}),
                           optional_array(FIELD(allowed)), optional_array(FIELD(exclude_offsets)),
                           optional_array(FIELD(exclude_ids)), optional_array(FIELD(min_score)),
                           optional_array(FIELD(max_score)), optional_array(FIELD(refined)),
                           optional_array(FIELD(pruned_bound)), value(FIELD(num_threads), 0),
                           ProgressArgument()));
}

void define_pack(py::module_& m) {
  using Request = ops::PackRequest;
  define<Request>(
      m, "pack",
      "Quantises documents into int8 codes [blocks, dim / 4, 32, 4] and bounds [blocks, 4, 32].",
      &ops::pack,
      positional(array(FIELD(documents)), array(FIELD(codes)), array(FIELD(bounds)),
                 array(FIELD(finite))),
      keywords(optional_array(FIELD(radius_sum)), optional_array(FIELD(direction)),
               value(FIELD(rotate), false), value(FIELD(num_threads), 0)));
}

void define_finite_rows(py::module_& m) {
  using Request = ops::FiniteRowsRequest;
  define<Request>(m, "finite_rows", "Tests each row for NaN and infinities.", &ops::finite_rows,
                  positional(array(FIELD(vectors)), array(FIELD(finite))),
                  keywords(value(FIELD(num_threads), 0)));
}

void define_score(py::module_& m) {
  using Request = ops::ScoreRequest;
  define<Request>(
      m, "score",
      "Scores the documents rows [n, m] for queries [n, dim]: canonically, or as fp32 estimates.",
      &ops::score,
      positional(array(FIELD(queries)), array(FIELD(documents)), array(FIELD(rows)),
                 array(FIELD(scores))),
      keywords(value(FIELD(canonical), true), value(FIELD(num_threads), 0)));
}

}  // namespace

void define_search(py::module_& m) {
  m.attr("BLOCK_ROWS") = block_rows;
  m.attr("BLOCK_BOUNDS") = block_bounds;
  m.attr("MAX_PACKED_DIM") = max_packed_dim;
  define_search_op(m);
  define_pack(m);
  define_finite_rows(m);
  define_score(m);
}

}  // namespace tilefold::bind
