// What the search kernels share: a batch of queries, as prepared, and its lists of candidates. All
// memory is the device's.
#pragma once
#include <cstdint>

#include "contract/search.h"

namespace tilefold::cuda {

// Queries and documents of a tile of the filter, and codes of a step of its inner loop.
constexpr int tile_queries = 128, tile_blocks = 4, tile_documents = tile_blocks * block_rows;
constexpr int step_codes = 64;

// The largest k: answers are sorted in shared memory.
constexpr int64_t max_k = 4096;

// The bounds of a score, as on the CPU (cpu/lanes/search_args.h): for a document with a part `d`
// along the direction, radius r and norm n, the score lies within
//     along * d + scale * document_scale * (<codes, document codes> - 128 * code_sum)
//         +- (norm_factor * n + radius_factor * r + along_factor * |d|)
struct QueryBound {
  float scale;
  float along;
  float norm_factor;
  float radius_factor;
  float along_factor;
  int32_t code_sum;
};

// How the answer of a query is obtained, each way safer and slower than the one before: from
// thresholds that are likely to hold, from thresholds that k documents are certain to reach, from
// canonical scores of all documents; or it is there.
enum class Stage : int32_t { likely, certain, exact, answered };

// A candidate did not fit in the list; a score contradicted its bounds.
constexpr int32_t list_overflowed = 1, bounds_wrong = 2;

struct Queries {
  int64_t first, n;    // of the search's queries
  int64_t row_codes;   // codes of a row: padded_dim, rounded up to step_codes
  float* wide;         // [n, dim]
  float* rest;         // [n, padded_dim] without the part along the direction, rotated
  int8_t* codes;       // [n rounded up to tile_queries, row_codes]
  QueryBound* bounds;  // [n]
  float* initial;      // [n] thresholds before any document of this search is seen
  float* thresholds;   // [n] documents with a smaller upper bound are dropped
  float* pruned;       // [n] largest upper bound that was dropped
  Stage* stages;       // [n]
  int32_t* faults;     // [n] what is wrong with the list or the bounds
  int64_t* refined;    // [n] canonical scores of this stage
};

// For each query the rows of documents that may be among its k best, with bounds of their scores.
struct CandidateLists {
  int32_t* counts;  // [n] also of those beyond the capacity, which are lost
  int32_t* rows;    // [n, capacity]
  float* lower;     // [n, capacity]
  float* upper;     // [n, capacity]
  int64_t capacity;
};

}  // namespace tilefold::cuda
