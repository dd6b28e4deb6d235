// The search ops as Python calls them. A request has the arguments of a call under their Python
// names; the function checks them, fills the contract and runs the implementation for their device.
// It runs without the GIL.
#pragma once
#include <cstdint>

#include "pulse.h"
#include "view.h"

namespace tilefold::ops {

// Updates the answers scores, ids [n, k] with documents.
struct SearchRequest {
  View queries, documents, scores, ids;
  int64_t k;
  View codes, bounds, direction;
  bool rotated;
  View document_ids;
  int64_t first_id;
  View allowed, exclude_offsets, exclude_ids, min_score, max_score, refined, pruned_bound;
  int num_threads;
};
void search(const SearchRequest& r, Pulse& pulse);

// Quantises documents.
struct PackRequest {
  View documents, codes, bounds, finite, radius_sum, direction;
  bool rotate;
  int num_threads;
};
void pack(const PackRequest& r, Pulse& pulse);

// Tests rows for NaN and infinities: finite [rows].
struct FiniteRowsRequest {
  View vectors, finite;
  int num_threads;
};
void finite_rows(const FiniteRowsRequest& r, Pulse& pulse);

// Scores the documents rows [n, m] for queries [n, dim].
struct ScoreRequest {
  View queries, documents, rows, scores;
  bool canonical;
  int num_threads;
};
void score(const ScoreRequest& r, Pulse& pulse);

}  // namespace tilefold::ops
