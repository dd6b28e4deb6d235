// The scalar row of the table.
#define ISA scalar
#include "cpu/lanes/lanes_scalar.h"
#include "cpu/lanes/tile_scalar.h"
//
#include "cpu/rows/row.h"

namespace tilefold {

extern const Kernels scalar_kernels = {
    "scalar",
    "cpu",
    "nothing",
    supports_scalar,
    ISA::search_kernels,
    ISA::loss_kernels<float>,
    ISA::loss_kernels<double>,
    {},
    ISA::statistics_kernels,
    {ISA::peak_fp32, ISA::peak_int8, nullptr},
};

}  // namespace tilefold
