// The avx512 row of the table: its lanes and its tile under the algorithms that all rows share.
#define ISA avx512
#include "lanes_avx512.h"
#include "tile_avx512.h"
//
#include "estimate.h"
#include "loss.h"
#include "peak.h"
#include "quantise.h"
#include "scan.h"
#include "score.h"
//
#include "../kernels.h"
#include "supports.h"

namespace tilefold {

extern const Kernels avx512_kernels = {
    "avx512",
    "cpu",
    "AVX-512 F, BW, DQ, VL and VNNI",
    supports_avx512,
    {ISA::query_tile, ISA::query_levels, ISA::widen, ISA::finite_row, ISA::pack_documents,
     ISA::pack_query, ISA::tile_codes, ISA::tile, ISA::scan, ISA::estimate, ISA::score},
    ISA::loss_kernels<float>,
    ISA::loss_kernels<double>,
    {ISA::peak_fp32, ISA::peak_int8},
};

}  // namespace tilefold
