// The ISA table of the CPU: a row per instruction set, best first, and a column per kernel. Nothing
// else tests for a CPU feature.
#pragma once
#include "contract/search.h"
#include "contract/statistics.h"
#include "cpu/lanes/loss_args.h"
#include "cpu/lanes/search_args.h"

namespace tilefold::cpu {

struct SearchKernels {
  int query_tile;  // queries per tile of scan
  // Limit on the sum of the positive codes of a query, and of the negative ones, in each group of
  // four dimensions (see finest_scale in quantise.h); 0 for none.
  int max_group_sum;

  // Converts one row of a matrix to fp32; exact for every dtype but fp64.
  void (*widen)(const Matrix&, int64_t row, float* out);
  // Tests whether all of x [dim] are finite.
  bool (*finite)(const float* x, int64_t dim);
  // Quantises one block of documents.
  void (*pack_documents)(const PackArgs&, int64_t block);
  // Bytes of a packed query of padded `dim`: its codes and what else the tile takes.
  int64_t (*packed_query_bytes)(int64_t dim);
  // Completes a packed query by what follows its codes [dim]; returns the largest sum of squares of
  // codes that share a sum of the tile.
  int32_t (*finish_query)(int8_t* codes, int64_t dim);
  // The same sum of the documents of one block.
  int32_t (*shared_squares)(const uint8_t* codes, int64_t dim);
  // Quantises one of n queries [dim] in a form that fits packed documents; writes it 4 bytes at a
  // time, `stride` bytes apart.
  QueryBound (*pack_query)(const float* query, int64_t dim, const PackedDocuments& packed,
                           int64_t n, int64_t stride, int8_t* codes);
  // Integer inner products of one block with up to query_tile packed queries: out[query][32].
  // `squares`: shared_squares of the block times the largest of the queries.
  void (*tile)(const uint8_t* codes, const int8_t* queries, int n_queries, int64_t dim,
               int64_t squares, int32_t* out);
  // Appends the documents of one block that pass the filter to the lists of a group of queries.
  void (*scan)(const ScanArgs&);
  // Computes fp32 inner products, which tighten the bounds of the filter.
  void (*estimate)(const EstimateArgs&);
  // Computes canonical scores, whose arithmetic defines the answer.
  void (*score)(const CanonicalArgs&);
};

// Products of tiles and the reductions of their scores, in fp32 or fp64.
template <class T>
struct LossKernels {
  int columns;  // of a tile

  void (*pack_rows)(const T* x, int64_t stride, int64_t n, int64_t dim, T* out);
  void (*pack_columns)(const T* x, int64_t stride, int64_t n, int64_t columns, T* out);
  void (*multiply)(const ProductArgs<T>&);
  void (*query_logsumexp)(const LogSumExpArgs<T>&);
  void (*document_logsumexp)(const LogSumExpArgs<T>&);
  void (*softmax_gradient)(const SoftmaxGradientArgs<T>&);
  void (*gate_scores)(const GateArgs<T>&);
  void (*gate_gradients)(const GateArgs<T>&);
  void (*mixture_divergence)(const MixtureArgs<T>&);
  void (*mixture_gradient)(const MixtureArgs<T>&);
};

// Products of bf16 inputs, in tiles of as many columns as those of fp32. Pairs along the inner
// dimension are adjacent: [inner / 2, rounded up][tile columns][2], padded with zeros.
struct PairKernels {
  // Null for rows without such an instruction: inputs are widened to fp32.
  void (*multiply)(const PairProductArgs&);
  // n rows x [n][dim], inner along dim
  void (*pack_rows)(const Bfloat* x, int64_t stride, int64_t n, int64_t dim, Bfloat* out);
  // Some columns of n rows, inner along n
  void (*pack_columns)(const Bfloat* x, int64_t stride, int64_t n, int64_t columns, Bfloat* out);
  // Rounds a panel [n_documents][tile columns] to pairs of queries; rows of `out` `stride` apart
  void (*round_queries)(const float* panel, int64_t n_documents, int64_t stride, Bfloat* out);
  // Rounds a panel to packed pairs of documents
  void (*round_documents)(const float* panel, int64_t n_documents, Bfloat* out);
};

// Statistics of columns [begin, end) of activations; begin is a multiple of strip_columns.
struct StatisticsKernels {
  void (*fold)(const StatisticsArgs&, int64_t begin, int64_t end);
  // Maximum of each column over some rows: max [end - begin].
  void (*column_max)(const Matrix&, const int64_t* rows, int64_t n, int64_t begin, int64_t end,
                     float* max);
};

// Peak arithmetic rates of a row, from operations on registers alone; for benchmarks. Each returns
// the number of operations done, where a multiply-add counts as two.
struct PeakKernels {
  double (*fp32)(int64_t rounds);
  double (*int8)(int64_t rounds);
  double (*bf16)(int64_t rounds);  // null if the row has no PairKernels
};

struct Row {
  const char* name;
  const char* needs;
  bool (*supported)();
  SearchKernels search;
  LossKernels<float> loss_fp32;
  LossKernels<double> loss_fp64;
  PairKernels loss_bf16;
  StatisticsKernels statistics;
  PeakKernels peak;
};

extern const Row* const rows[];  // best first, ends with nullptr; the last row is always supported

// Returns the row in use: the best supported one, or the one that TILEFOLD_ISA names. Throws if
// that one is unknown or not supported. The variable is read at every call, so that tests can
// switch rows.
const Row& active_row();

template <class T>
const LossKernels<T>& loss_kernels(const Row& row) {
  if constexpr (sizeof(T) == 4)
    return row.loss_fp32;
  else
    return row.loss_fp64;
}

}  // namespace tilefold::cpu
