// Which kernels exist and which one runs: one table, a row per ISA, best first. Every column is a
// plain function over args.h; nothing else in the library tests for a CPU feature.
#pragma once
#include <string>
#include <vector>

#include "contract/search.h"

namespace tilefold {

struct SearchKernels {
  int query_tile;    // queries per tile of scan
  int query_levels;  // query codes lie in [-query_levels, query_levels]

  // One row of a matrix as fp32; exact for every dtype.
  void (*widen)(const Matrix&, int64_t row, float* out);
  // Whether all of x [dim] are finite.
  bool (*finite)(const float* x, int64_t dim);
  // Quantises one block of documents.
  void (*pack_documents)(const PackArgs&, int64_t block);
  // Quantises one query [dim], padded; writes its codes 4 at a time, `stride` bytes apart.
  QueryBound (*pack_query)(const float* query, int64_t dim, bool rotated, int64_t stride,
                           int8_t* codes);
  // A block's codes as tile takes them: as they are, or halved, in scratch [block_bytes(dim)].
  const uint8_t* (*tile_codes)(const uint8_t* codes, int64_t dim, uint8_t* scratch);
  // Integer inner products of one block with up to query_tile queries: out[query][32].
  void (*tile)(const uint8_t* codes, const int8_t* queries, int n_queries, int64_t dim,
               int32_t* out);
  // Folds one block into the candidate lists of a group of queries.
  void (*scan)(const ScanArgs&);
  // fp32 inner products, which narrow the bounds of the filter.
  void (*estimate)(const EstimateArgs&);
  // Canonical scores: the arithmetic that defines the answer.
  void (*score)(const ScoreArgs&);
};

// Products of tiles and what is folded of them, in fp32 or fp64.
template <class T>
struct LossKernels {
  int columns;  // of a tile

  void (*pack_rows)(const T* x, int64_t stride, int64_t n, int64_t dim, T* out);
  void (*pack_columns)(const T* x, int64_t stride, int64_t n, int64_t columns, T* out);
  void (*multiply)(const ProductArgs<T>&);
  void (*fold_queries)(const FoldArgs<T>&);
  void (*fold_documents)(const FoldArgs<T>&);
  void (*weigh)(const WeighArgs<T>&);
  void (*close_gates)(const GateArgs<T>&);
  void (*pass_gates)(const GateArgs<T>&);
  void (*fold_mixture)(const MixtureArgs<T>&);
  void (*weigh_mixture)(const MixtureArgs<T>&);
};

// Products of bf16 inputs, in tiles of as many columns as those of fp32. Pairs of the inner dimension
// lie together: [inner / 2, rounded up][tile columns][2], zeros where there is nothing.
struct PairKernels {
  // Null where a row has no such instruction: inputs are widened to fp32.
  void (*multiply)(const PairProductArgs&);
  // n rows x [n][dim], inner along dim
  void (*pack_rows)(const Bfloat* x, int64_t stride, int64_t n, int64_t dim, Bfloat* out);
  // Some columns of n rows, inner along n
  void (*pack_columns)(const Bfloat* x, int64_t stride, int64_t n, int64_t columns, Bfloat* out);
  // A panel [n_documents][tile columns], rounded: pairs of queries, rows of `out` `stride` apart
  void (*round_queries)(const float* panel, int64_t n_documents, int64_t stride, Bfloat* out);
  // The same: pairs of documents, packed
  void (*round_documents)(const float* panel, int64_t n_documents, Bfloat* out);
};

// Columns [begin, end) of activations, folded over rows; begin is a multiple of strip_columns.
struct StatisticsKernels {
  void (*fold)(const StatisticsArgs&, int64_t begin, int64_t end);
  // The largest value of each column in some rows: most [end - begin].
  void (*most)(const Matrix&, const int64_t* rows, int64_t n, int64_t begin, int64_t end,
               float* most);
};

// The rates a row can reach at best: arithmetic on registers alone, for benchmarks.
struct PeakKernels {
  double (*fp32)(int64_t rounds);  // returns operations done; one multiply-add is two
  double (*int8)(int64_t rounds);
  double (*bf16)(int64_t rounds);  // null where PairKernels are
};

struct Kernels {
  const char* name;
  const char* device;
  const char* needs;
  bool (*supported)();
  SearchKernels search;
  LossKernels<float> loss_fp32;
  LossKernels<double> loss_fp64;
  PairKernels loss_bf16;
  StatisticsKernels statistics;
  PeakKernels peak;
};

extern const Kernels* const rows[];  // best first, ends with nullptr; the last row always runs

// The row in use: the best supported one, or the one that TILEFOLD_ISA names. Throws if that one is
// unknown or not supported. Read afresh at every call, so tests may switch rows.
const Kernels& active_row();
const Kernels& row_named(const std::string& name);

}  // namespace tilefold
