// The contract of every op: plain structs of pointers and sizes, shared by all rows of the table,
// CPU and CUDA alike. Strides are in elements. Nothing here owns memory.
#pragma once
#include <cstdint>

namespace tilefold {

struct Half {
  uint16_t bits;
};
struct Bfloat {
  uint16_t bits;
};

enum class Dtype { f32, f16, bf16, i8, f64 };

inline int64_t item_bytes(Dtype dtype) {
  switch (dtype) {
    case Dtype::f32: return 4;
    case Dtype::f16:
    case Dtype::bf16: return 2;
    case Dtype::i8: return 1;
    case Dtype::f64: return 8;
  }
  return 0;
}

struct Matrix {
  const void* data;  // [rows, dim], dimensions contiguous
  int64_t rows;
  int64_t dim;
  int64_t row_stride;
  Dtype dtype;
};

// ---- search ------------------------------------------------------------------------------------

// Documents are packed in blocks of 32, so that two AVX-512 registers hold four dimensions of a
// block and one 32-bit word says which of its documents may be retrieved.
constexpr int block_rows = 32;
constexpr int block_bounds =
    4 * block_rows;  // floats: scale, norm, radius, coarse radius, each x32

// Code sums must fit 32 bits on every row of the table: 4 * 128 * 63 * dim < 2^31.
constexpr int64_t max_packed_dim = 32768;

// Candidate lists of a group of queries take at most this much, unless one query alone needs more.
constexpr int64_t list_bytes_per_thread = 64 << 20;
// The same for all lists of a search for few queries, which are kept to its end.
constexpr int64_t range_list_bytes = 64 << 20;

inline int64_t padded_dim(int64_t dim) { return (dim + 7) / 8 * 8; }
inline int64_t block_count(int64_t rows) { return (rows + block_rows - 1) / block_rows; }
inline int64_t block_bytes(int64_t dim) { return padded_dim(dim) * block_rows; }

// int8 codes of documents. Document x is approximated by scale * (code - 128), and on rows without
// an 8-bit dot product by scale * (2 * ceil(code / 2) - 128.5): half the code, twice the step. The
// radii bound the two errors from above; norm bounds |x| and both approximations from above.
struct PackedDocuments {
  const uint8_t* codes;  // [blocks][dim / 4][32][4], dim padded to 8
  const float* bounds;   // [blocks][4][32]: scale, norm, radius, coarse radius
  bool rotated;          // quantised after the fixed orthogonal rotation of rotation.h
};

struct PackArgs {
  Matrix documents;
  bool rotate;
  uint8_t* codes;      // as in PackedDocuments
  float* bounds;       //
  uint32_t* finite;    // [blocks] bit i: document i of the block has finite values only
  double* radius_sum;  // [blocks] sum of radius / norm, to compare ways of packing; may be null
};

// A query as the filter sees it: codes, and the factors of its two error terms. For a document with
// radius r and norm n the score lies within
//     scale * document_scale * affine(<codes, document codes>)  +-  (norm_factor * n + radius_factor * r)
struct QueryBound {
  float scale;
  float norm_factor;
  float radius_factor;
  int32_t code_sum;
};

// How narrow the bounds of a candidate are: those of the integer filter, those of an fp32 estimate,
// or none: lower == upper == the canonical score.
enum class Stage : uint64_t { filtered, estimated, scored };

// What is known of one document's score for one query.
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

// One block of documents against a group of queries.
struct ScanArgs {
  const int8_t* query_codes;       // tiles of query_tile queries: [dim / 4][queries in tile][4]
  const QueryBound* query_bounds;  // [n_queries]
  const float* thresholds;         // [n_queries] a document whose upper bound is below is out
  int32_t n_queries;
  int64_t dim;            // padded
  const uint8_t* codes;   // of this block
  const float* bounds;    // of this block
  uint32_t mask;          // documents that may be retrieved
  int64_t first_row;      // row number of the block's first document
  Candidate* candidates;  // [n_queries][capacity]; 32 places free in each list
  int32_t* counts;        // [n_queries]
  int64_t capacity;
  float* pruned;     // [n_queries] largest upper bound that was out; may be null
  uint8_t* scratch;  // block_bytes(dim), 64-byte aligned
};

// Canonical scores of some documents for one query.
struct ScoreArgs {
  const double* query;  // [dim]
  Matrix documents;
  const int64_t* rows;  // [n], or null for first_row, first_row + 1, ...
  int64_t first_row;
  int64_t n;
  float* scores;  // [n]
};

// fp32 inner products of some documents with one query, in no particular order of addition: off by
// at most (dim + 64) 2^-24 |query| |document|, unless they overflow.
struct EstimateArgs {
  const float* query;  // [dim]
  Matrix documents;
  const int64_t* rows;  // [n]
  int64_t n;
  float* estimates;  // [n]
};

// A whole search: folds some documents into running answers.
struct SearchArgs {
  Matrix queries;
  Matrix documents;
  PackedDocuments packed;       // packed.codes null: score every document canonically
  const int64_t* document_ids;  // [rows], or null for first_id + row
  int64_t first_id;
  const uint32_t* allowed;         // [blocks] bitmap of rows, or null for all
  const int64_t* exclude_offsets;  // [n + 1] CSR over exclude_ids, or null
  const int64_t* exclude_ids;      // sorted within each query
  const float* min_score;          // [n] inclusive window of scores, or null
  const float* max_score;          //
  int64_t k;
  float* scores;     // [n, k] in and out: the best so far, padded with -inf
  int64_t* ids;      // [n, k] in and out: padded with -1
  int64_t* refined;  // [n] in and out: canonical scores computed; may be null
  float*
      pruned_bound;  // [n] in and out: largest upper bound of a document never scored; may be null
};

// ---- contrastive -------------------------------------------------------------------------------

// T is fp32, or fp64 where the inputs are. Scores of a block of queries lie in panels of as many
// queries as a tile has columns: [queries / columns][documents][columns].

// Documents listed for each query, rising.
struct Lists {
  const int64_t* offsets;  // [n + 1], or null for none
  const int64_t* indices;
};

// Documents that are no candidates of query i: those whose id is among the ids of its group.
struct IdentityArgs {
  const int64_t* groups;        // [n], or null for none
  Lists ids;                    // of each group
  const int64_t* document_ids;  // [m]
};

// c (+)= a b for `columns` columns. Row i of a at inner position (o, j) is
// a[i * a_row + o * a_outer + j * a_inner].
template <class T>
struct ProductArgs {
  const T* a;
  int64_t rows, a_row;
  int64_t outer, a_outer;
  int64_t inner, a_inner;
  const T* b;  // [outer * inner][tile columns]
  T* c;
  int64_t c_row, columns;
  bool accumulate;
};

// The same for bf16: exact products of pairs along the inner dimension, summed in fp32. Row i of a
// has pair j at a[i * a_row + j * a_pair], and half a pair at the end where `inner` is odd.
struct PairProductArgs {
  const Bfloat* a;
  int64_t rows, a_row;
  int64_t inner, a_pair;
  const Bfloat* b;  // [inner / 2, rounded up][tile columns][2]
  float* c;
  int64_t c_row, columns;
  bool accumulate;
};

// One panel's scores for some documents, and what is folded of them.
template <class T>
struct FoldArgs {
  T* scores;  // [n_documents][tile columns]
  int64_t n_documents;
  T scale;
  T* most;  // per query [tile columns], or per document [n_documents]
  T* sum;   // sums of e^(score - most)
};

template <class T>
struct WeighArgs {
  T* scores;  // [n_documents][tile columns]
  int64_t n_documents;
  const T *query_shifts, *query_weights;        // [tile columns]
  const T *document_shifts, *document_weights;  // [n_documents], or null
};

// One panel for some documents, and the scores that open or close it.
template <class T>
struct GateArgs {
  T* scores;  // [n_documents][tile columns]
  T* gates;
  int64_t n_documents;
};

// One panel of each view for some documents: P_v = e^(score - shift) factor, where the factor is what
// rounding took from the shift, and the mixture M of the P_v that they are compared with. Logarithms
// are without the factor's, but for that of a mean.
template <class T>
struct MixtureArgs {
  T* const* scores;  // [views] [n_documents][tile columns]
  int n_views;
  int64_t n_documents;
  int reference;              // the view that M is; -1: the mean of all
  bool mixture_first;         // KL(M || P_v), else KL(P_v || M)
  bool elsewhere;             // M is subtracted from gradients elsewhere, being 0 almost everywhere
  const T *shifts, *factors;  // [views][tile columns]
  const T* weights;           // [views][tile columns] what gradients are multiplied by
  T* divergences;             // [views][tile columns]
  T* variances;               // [tile columns] of P_v over views, summed over documents
};

// A whole loss. For query i with positives P and the other candidates C, scores s = scale <q, d>:
//   each  mean over p in P of log(sum over C of e^s + e^(s_p)) - s_p
//   sum   log(sum over C and P of e^s) - log(sum over P of e^s)
// Symmetric: the same for every document that is someone's positive, over the queries.
struct ContrastiveArgs {
  Matrix queries, documents;
  Matrix gate_queries, gate_documents;  // scores are multiplied by sigmoids of theirs; or null data
  double scale;
  bool each;
  Lists positives;                 // at least one for every query
  const double* soft_targets;      // what each positive counts, in place of `each`; or null
  Lists excluded;                  // positives among them stay positives; may be null
  IdentityArgs identity;           // the same
  const double* query_weights;     // [n] what a unit of each loss counts; null: no gradients
  const double* document_weights;  // [m] the same; null unless symmetric
  double* query_losses;            // [n]
  double* document_losses;         // [m], 0 where there is no positive; null unless symmetric
  void* grad_queries;              // [n, dim] of fp32, or fp64 for fp64 inputs; may be null
  void* grad_documents;            // [m, dim]; may be null

  bool symmetric() const { return document_losses; }
  bool gated() const { return gate_queries.data; }
};

// ---- divergence --------------------------------------------------------------------------------

// Queries and documents in one of several views of the same batch; dimensions may differ.
struct ScoreView {
  Matrix queries, documents;
  double scale;
  void* grad_queries;    // [n, dim] as in ContrastiveArgs; may be null
  void* grad_documents;  // [m, dim]; may be null; views with the same documents may share it
};

// For query i and views v with P_v = softmax over documents of scale <q, d>: the divergences from a
// mixture M of the P_v, which is held constant, KL(M || P_v) or KL(P_v || M).
struct DivergenceArgs {
  const ScoreView* views;
  int n_views;
  int reference;          // the view that M is; -1: the mean of all
  bool mixture_first;     // KL(M || P_v)
  Lists excluded;         // may be null
  Lists listed;           // M cut down to these documents, and scaled to sum to one again; null: to
                          // all, which KL(P_v || M) needs
  const double* weights;  // [views][n] what a unit of each divergence counts; null: no gradients
  double* divergences;    // [views][n]
  double* masses;         // [n] of M on listed documents, before it is scaled
  double* variances;      // [n] of P_v over views, summed over documents; 0 with a reference
};

// ---- statistics --------------------------------------------------------------------------------

// Columns are folded so many at once, a cache line of fp32; no two threads share one.
constexpr int strip_columns = 16;

// Bins of a histogram: for each sign 8 to an octave of magnitudes from 2^-16 to 2^16, what is larger
// in the last; between them one for what is nearer to zero. In the order of values.
constexpr int bins_per_octave = 8, least_octave = -16, octaves = 32;
constexpr int bins_per_sign = bins_per_octave * octaves, histogram_bins = 2 * bins_per_sign + 1;

// What is known of each column of activations, over the rows that count. NaN counts in moments alone.
struct StatisticsArgs {
  Matrix x;             // [rows, width]
  const int64_t* rows;  // [n] that count
  int64_t n;
  int64_t before;       // rows folded earlier
  double *mean, *m2;    // [width] in and out: the mean, and squares of distances from it, summed
  float *least, *most;  // [width] in and out
  const float* thresholds;  // [n_thresholds]
  int64_t n_thresholds;
  int64_t* above;      // [n_thresholds, width] in and out: rows with a value beyond it
  int64_t* histogram;  // [width, histogram_bins] in and out, or null
};

// The examples with the largest value in each column, and that value; ties by number.
struct ExamplesArgs {
  Matrix x;
  const int64_t* offsets;  // [n + 1] of each example's rows
  const int64_t* rows;     // that count
  int64_t n;
  const int64_t* numbers;  // [n] of examples
  int64_t k;
  float* values;      // [width, k] in and out, falling, -inf where there are fewer
  int64_t* examples;  // [width, k] in and out, -1 where there are fewer
};

// Sums of products of columns, the lower triangle.
struct SecondMomentArgs {
  Matrix x;
  const int64_t* rows;  // [n] that count
  int64_t n;
  double* sums;  // [width, width] in and out
};

}  // namespace tilefold
