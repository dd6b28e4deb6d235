// The scalar row of the ISA table.
#define ISA scalar
#include "cpu/lanes/lanes_scalar.h"
#include "cpu/lanes/tile_scalar.h"
//
#include "cpu/rows/row.h"

namespace tilefold::cpu {

extern const Row scalar_row = {
    "scalar",
    "nothing",
    supports_scalar,
    ISA::search_kernels,
    ISA::row_loss_kernels<float>,
    ISA::row_loss_kernels<double>,
    {},
    ISA::statistics_kernels,
    {ISA::peak_fp32, ISA::peak_int8, nullptr},
};

}  // namespace tilefold::cpu
