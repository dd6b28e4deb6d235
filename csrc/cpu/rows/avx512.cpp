// The avx512 row of the ISA table.
#define ISA avx512
#include "cpu/lanes/lanes_avx512.h"
#include "cpu/lanes/tile_avx512.h"
//
#include "cpu/rows/row.h"

namespace tilefold::cpu {

extern const Row avx512_row = {
    "avx512",
    "AVX-512 F, BW, DQ, VL and VNNI",
    supports_avx512,
    ISA::search_kernels,
    ISA::row_loss_kernels<float>,
    ISA::row_loss_kernels<double>,
    {},
    ISA::statistics_kernels,
    {ISA::peak_fp32, ISA::peak_int8, nullptr},
};

}  // namespace tilefold::cpu
