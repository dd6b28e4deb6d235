// The avx512_bf16 row of the ISA table: the avx512 row, with products of bf16 inputs without
// widening.
#define ISA avx512_bf16
#include "cpu/lanes/lanes_avx512_bf16.h"
#include "cpu/lanes/tile_avx512.h"
//
#include "cpu/lanes/pairs.h"
#include "cpu/rows/row.h"

namespace tilefold::cpu {

extern const Row avx512_bf16_row = {
    "avx512_bf16",
    "AVX-512 F, BW, DQ, VL, VNNI and BF16",
    supports_avx512_bf16,
    ISA::search_kernels,
    ISA::row_loss_kernels<float>,
    ISA::row_loss_kernels<double>,
    {ISA::multiply_pairs, ISA::pack_row_pairs, ISA::pack_column_pairs, ISA::round_queries,
     ISA::round_documents},
    ISA::statistics_kernels,
    {ISA::peak_fp32, ISA::peak_int8, ISA::peak_bf16},
};

}  // namespace tilefold::cpu
