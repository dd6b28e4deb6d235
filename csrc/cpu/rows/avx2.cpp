// The avx2 row of the table.
#define ISA avx2
#include "cpu/lanes/lanes_avx2.h"
#include "cpu/lanes/tile_avx2.h"
//
#include "cpu/rows/row.h"

namespace tilefold {

extern const Kernels avx2_kernels = {
    "avx2",
    "cpu",
    "AVX2, FMA, F16C",
    supports_avx2,
    ISA::search_kernels,
    ISA::loss_kernels<float>,
    ISA::loss_kernels<double>,
    {},
    ISA::statistics_kernels,
    {ISA::peak_fp32, ISA::peak_int8, nullptr},
};

}  // namespace tilefold
