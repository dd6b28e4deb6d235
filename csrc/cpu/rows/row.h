// The columns that every row of the ISA table has, from the algorithms that all rows share. The
// row's lanes and its tile are included before this.
#pragma once
#include "cpu/rows/table.h"
#include "cpu/lanes/column_max.h"
#include "cpu/lanes/estimate.h"
#include "cpu/lanes/gate.h"
#include "cpu/lanes/mixture.h"
#include "cpu/lanes/peak.h"
#include "cpu/lanes/quantise.h"
#include "cpu/lanes/scan.h"
#include "cpu/lanes/score.h"
#include "cpu/lanes/softmax.h"
#include "cpu/lanes/statistics.h"
#include "cpu/rows/supports.h"

namespace tilefold::cpu::ISA {
namespace {

constexpr SearchKernels search_kernels = {
    query_tile,   max_group_sum,  widen,      finite_row, pack_documents, packed_query_bytes,
    finish_query, shared_squares, pack_query, tile,       scan,           estimate,
    score};

template <class T>
constexpr LossKernels<T> row_loss_kernels = {
    tile_columns<T>,    pack_rows<T>,          pack_columns<T>,     multiply<T>,
    query_logsumexp<T>, document_logsumexp<T>, softmax_gradient<T>, gate_scores<T>,
    gate_gradients<T>,  mixture_divergence<T>, mixture_gradient<T>};

constexpr StatisticsKernels statistics_kernels = {fold_statistics, column_max};

}  // namespace
}  // namespace tilefold::cpu::ISA
