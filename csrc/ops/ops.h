// Host half of every op, as Python calls it: checks the arguments once, fills the args, picks a row
// and splits the work. Called with the GIL held and views taken; runs without it.
#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "pulse.h"
#include "view.h"

namespace tilefold::ops {

struct SearchViews {
  View queries, documents, scores, ids;
  View codes, bounds, document_ids, allowed, exclude_offsets, exclude_ids, min_score, max_score;
  View refined, pruned_bound;
};
void search(const SearchViews& views, int64_t k, bool rotated, int64_t first_id, int threads,
            Pulse& pulse);

// Quantises documents. `radius_sum` [blocks] may be absent.
struct PackViews {
  View documents, codes, bounds, finite, radius_sum;
};
void pack(const PackViews& views, bool rotate, int threads, Pulse& pulse);

// finite [rows]: 1 where a row has no NaN and no infinity.
void finite_rows(const View& vectors, const View& finite, int threads);

// What the list of candidates of one query takes, however many documents there are.
int64_t list_bytes(int64_t k);

// Scores, canonical ones or fp32 estimates, [n, m] of the documents rows [n, m] for queries [n, dim].
void score(const View& queries, const View& documents, const View& rows, const View& scores,
           bool canonical, int threads);

// Losses [n] of queries, [m] of documents where symmetric, and gradients of their weighted sum where
// weights and gradients are given. Gradients are fp32, or fp64 where the inputs are.
struct ContrastiveViews {
  View queries, documents, positive_offsets, positives, soft_targets, exclude_offsets, excluded;
  View query_weights, document_weights, query_losses, document_losses;
  View grad_queries, grad_documents, gate_queries, gate_documents;
  View groups, group_offsets, group_ids, document_ids;  // IdentityArgs
};
void contrastive(const ContrastiveViews& views, double scale, bool each, int threads, Pulse& pulse);

// Divergences [views, n] of the softmaxes of several views from their mixture, and the gradients of
// their weighted sum: weights [views, n], and for every view what it wants of both gradients.
struct ScoreViewViews {
  View queries, documents, grad_queries, grad_documents;
  double scale;
  std::string name;  // for messages, such as " of the teacher"
};
struct DivergenceViews {
  std::vector<ScoreViewViews> of_views;
  View exclude_offsets, excluded, listed_offsets, listed;
  View weights, divergences, masses, variances;
};
// `op` begins messages.
void divergence(const std::string& op, const DivergenceViews& views, int reference,
                bool mixture_first, int threads, Pulse& pulse);

// Folds the rows of activations that count into statistics of columns; `histogram` may be absent.
struct StatisticsViews {
  View x, rows, count, mean, m2, least, most, thresholds, above, histogram;
};
void statistics(const StatisticsViews& views, int threads);

// Keeps the examples [n] with the largest values of each column; offsets [n + 1] are of their rows.
struct ExamplesViews {
  View x, rows, offsets, numbers, values, examples;
};
void examples(const ExamplesViews& views, int threads);

// Adds products of columns to the lower triangle of sums [width, width].
void second_moment(const View& x, const View& rows, const View& sums, int threads);

// Integer products of the row's tile, for tests and benchmarks: repeated `rounds` times.
void tile(const View& codes, const View& queries, const View& products, int64_t rounds);

// Best arithmetic rate of the row in use, operations per second: "fp32" or "int8".
double peak(const std::string& kind);

}  // namespace tilefold::ops
