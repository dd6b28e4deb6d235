// The neon_dot row of the ISA table.
#define ISA neon_dot
#include "cpu/lanes/lanes_neon.h"
#include "cpu/lanes/tile_neon_dot.h"
//
#include "cpu/rows/row.h"

namespace tilefold::cpu {

extern const Row neon_dot_row = {
    "neon_dot",
    "64-bit ARM with dot products (FEAT_DotProd)",
    supports_neon_dot,
    ISA::search_kernels,
    ISA::row_loss_kernels<float>,
    ISA::row_loss_kernels<double>,
    {},
    ISA::statistics_kernels,
    {ISA::peak_fp32, ISA::peak_int8, nullptr},
};

}  // namespace tilefold::cpu
