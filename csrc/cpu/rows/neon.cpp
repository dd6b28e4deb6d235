// The neon row of the ISA table.
#define ISA neon
#include "cpu/lanes/lanes_neon.h"
#include "cpu/lanes/tile_neon.h"
//
#include "cpu/rows/row.h"

namespace tilefold::cpu {

extern const Row neon_row = {
    "neon",
    "64-bit ARM",
    supports_neon,
    ISA::search_kernels,
    ISA::row_loss_kernels<float>,
    ISA::row_loss_kernels<double>,
    {},
    ISA::statistics_kernels,
    {ISA::peak_fp32, ISA::peak_int8, nullptr},
};

}  // namespace tilefold::cpu
