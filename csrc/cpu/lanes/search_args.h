// Arguments of the search kernels. Documents arrive in the packed format of contract/search.h.
#pragma once
#include <cstdint>

#include "contract/search.h"

namespace tilefold::cpu {

// A query as the filter uses it: its part along the direction of documents, the scale of its codes,
// and the factors of the error terms. For a document with a part `d` along the direction, radius r
// and norm n, the score lies within
//     along * d + scale * document_scale * (<codes, document codes> - 128 * code_sum)
//         +- (norm_factor * n + radius_factor * r + along_factor * |d|)
struct QueryBound {
  float scale;
  float along;
  float norm_factor;
  float radius_factor;
  float along_factor;
  int32_t code_sum;
  int32_t squares;  // the largest sum of squares of codes that share a sum of the tile, or 0
};

// How tight the bounds of a candidate are: from the integer filter, from an fp32 estimate, or exact
// (lower == upper == the canonical score).
enum class Stage : uint64_t { filtered, estimated, scored };

// Bounds of one document's score for one query.
struct Candidate {
  float lower;
  float upper;
  int64_t row : 62;
  Stage stage : 2;

  Candidate() = default;
  Candidate(float lower, float upper, int64_t row, Stage stage)
      : lower(lower), upper(upper), row(row), stage(stage) {}
  Candidate(float score, int64_t row) : Candidate(score, score, row, Stage::scored) {}
};

// Filters one block of documents for a group of queries.
struct ScanArgs {
  const int8_t* query_codes;       // tiles of query_tile packed queries
  const QueryBound* query_bounds;  // [n_queries]
  const float* thresholds;         // [n_queries] documents with a smaller upper bound are dropped
  int32_t n_queries;
  int64_t dim;            // padded
  const uint8_t* codes;   // of this block
  const float* bounds;    // of this block
  uint32_t mask;          // bit i: document i of the block is allowed
  int64_t first_row;      // row number of the block's first document
  Candidate* candidates;  // [n_queries][capacity]; every list has 32 free places
  int32_t* counts;        // [n_queries]
  int64_t capacity;
  float* pruned;  // [n_queries] largest upper bound that was dropped; may be null
};

// Computes canonical scores of some documents for one query.
struct CanonicalArgs {
  const float* query;  // [dim]
  Matrix documents;
  const int64_t* rows;  // [n], or null: first_row, first_row + 1, ...
  int64_t first_row;
  int64_t n;
  float* scores;  // [n]
};

// Computes fp32 inner products of some documents with one query, added in any order. The error is
// at most (dim + 64) 2^-24 |query| |document| unless the sums overflow.
struct EstimateArgs {
  const float* query;  // [dim]
  Matrix documents;
  const int64_t* rows;  // [n]
  int64_t n;
  float* estimates;  // [n]
};

}  // namespace tilefold::cpu
