// The avx2 row of the ISA table.
#define ISA avx2
#include "cpu/lanes/lanes_avx2.h"
#include "cpu/lanes/tile_avx2.h"
//
#include "cpu/rows/row.h"

namespace tilefold::cpu {

extern const Row avx2_row = {
    "avx2",
    "AVX2, FMA, F16C",
    supports_avx2,
    ISA::search_kernels,
    ISA::row_loss_kernels<float>,
    ISA::row_loss_kernels<double>,
    {},
    ISA::statistics_kernels,
    {ISA::peak_fp32, ISA::peak_int8, nullptr},
};

}  // namespace tilefold::cpu
