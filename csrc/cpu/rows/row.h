// The columns of the table that every row has: its lanes and its tile, included before this, under
// the algorithms that all rows share.
#pragma once
#include "cpu/rows/table.h"
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

namespace tilefold::ISA {
namespace {

constexpr SearchKernels search_kernels = {query_tile,     query_levels, widen,      finite_row,
                                          pack_documents, pack_query,   tile_codes, tile,
                                          scan,           estimate,     score};

template <class T>
constexpr LossKernels<T> loss_kernels = {tile_columns<T>, pack_rows<T>,    pack_columns<T>,
                                         multiply<T>,     fold_queries<T>, fold_documents<T>,
                                         weigh<T>,        close_gates<T>,  pass_gates<T>,
                                         fold_mixture<T>, weigh_mixture<T>};

constexpr StatisticsKernels statistics_kernels = {fold_statistics, most_of_rows};

}  // namespace
}  // namespace tilefold::ISA
