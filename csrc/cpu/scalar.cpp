// The scalar row of the table: its lanes and its tile under the algorithms that all rows share.
#define ISA scalar
#include "lanes_scalar.h"
#include "tile_scalar.h"
//
#include "estimate.h"
#include "gate.h"
#include "mixture.h"
#include "peak.h"
#include "quantise.h"
#include "scan.h"
#include "score.h"
#include "softmax.h"
//
#include "../kernels.h"
#include "supports.h"

namespace tilefold {

extern const Kernels scalar_kernels = {
    "scalar",
    "cpu",
    "nothing",
    supports_scalar,
    {ISA::query_tile, ISA::query_levels, ISA::widen, ISA::finite_row, ISA::pack_documents,
     ISA::pack_query, ISA::tile_codes, ISA::tile, ISA::scan, ISA::estimate, ISA::score},
    {ISA::tile_columns<float>, ISA::pack_rows<float>, ISA::pack_columns<float>,
     ISA::multiply<float>, ISA::fold_queries<float>, ISA::fold_documents<float>, ISA::weigh<float>,
     ISA::close_gates<float>, ISA::pass_gates<float>, ISA::fold_mixture<float>,
     ISA::weigh_mixture<float>},
    {ISA::tile_columns<double>, ISA::pack_rows<double>, ISA::pack_columns<double>,
     ISA::multiply<double>, ISA::fold_queries<double>, ISA::fold_documents<double>,
     ISA::weigh<double>, ISA::close_gates<double>, ISA::pass_gates<double>,
     ISA::fold_mixture<double>, ISA::weigh_mixture<double>},
    {ISA::peak_fp32, ISA::peak_int8},
};

}  // namespace tilefold
