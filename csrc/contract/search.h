// Contracts of the search ops: search, pack, finite_rows and score.
#pragma once
#include <cstdint>

#include "contract/device.h"
#include "contract/matrix.h"

namespace tilefold {

// ---- the packed format -------------------------------------------------------------------------

// Documents are packed in blocks of 32. A bitmap over documents has one 32-bit word for each block.
constexpr int block_rows = 32;
// Floats for each block: scale, norm, radius and part along the direction of 32 documents.
constexpr int block_bounds = 4 * block_rows;

// Integer inner products of codes must fit in 32 bits: 255 * 127 * dim < 2^31.
constexpr int64_t max_packed_dim = 32768;

constexpr int64_t padded_dim(int64_t dim) { return (dim + 7) / 8 * 8; }
constexpr int64_t block_count(int64_t rows) { return (rows + block_rows - 1) / block_rows; }
constexpr int64_t block_bytes(int64_t dim) { return padded_dim(dim) * block_rows; }

// int8 codes of documents. A document is its part along a unit vector, the same for all, and the
// rest, x = along * direction + rest; codes are of the rest, which is approximated by
// scale * (code - 128). The radius is an upper bound of the approximation's error; norm is an upper
// bound of |rest| and of the norm of its approximation. Embeddings often have a large common mean,
// which would otherwise take most of the codes' range.
struct PackedDocuments {
  const uint8_t* codes;     // [blocks][dim / 4][32][4], dim padded to 8
  const float* bounds;      // [blocks][4][32]: scale, norm, radius, along
  const float* direction;   // [dim], or null: rest = x, and along is 0
  double direction_defect;  // at least | |direction|^2 - 1 |
  bool rotated;             // codes are of the rest after a fixed orthogonal rotation
};

// ---- the ops -----------------------------------------------------------------------------------

// Updates the k best answers of each query with some documents.
struct SearchArgs {
  Device device;
  Matrix queries;
  Matrix documents;
  PackedDocuments packed;       // null codes: every document is scored canonically
  const int64_t* document_ids;  // [rows], or null: first_id + row
  int64_t first_id;
  const uint32_t* allowed;         // [blocks] bitmap of rows, or null: all rows
  const int64_t* exclude_offsets;  // [n + 1] CSR over exclude_ids, or null
  const int64_t* exclude_ids;      // sorted for each query
  const float* min_score;          // [n] inclusive, or null
  const float* max_score;          // [n] inclusive, or null
  int64_t k;
  float* scores;        // [n, k] in and out: the best so far, padded with -inf
  int64_t* ids;         // [n, k] in and out: padded with -1
  int64_t* refined;     // [n] in and out: number of canonical scores computed; may be null
  float* pruned_bound;  // [n] in and out: largest upper bound of a document that was never scored;
                        // may be null
};

// Quantises documents into the packed format.
struct PackArgs {
  Device device;
  Matrix documents;
  const float* direction;  // [dim] a unit vector, or null
  bool rotate;
  uint8_t* codes;      // as in PackedDocuments
  float* bounds;       // as in PackedDocuments
  uint32_t* finite;    // [blocks] bit i: document i of the block has finite values only
  double* radius_sum;  // [blocks] sum of radius / norm, which compares ways of packing; may be null
};

// Tests each row for NaN and infinities.
struct FiniteRowsArgs {
  Device device;
  Matrix vectors;
  uint8_t* finite;  // [rows] 1: all values are finite
};

// Scores listed documents for each query.
struct ScoreArgs {
  Device device;
  Matrix queries;
  Matrix documents;
  const int64_t* rows;  // [n, m] rows of documents
  int64_t m;
  bool canonical;  // else fp32 estimates
  float* scores;   // [n, m]
};

}  // namespace tilefold
