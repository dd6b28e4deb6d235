// Whether this machine supports a row of the ISA table. Defined in a file with baseline flags: in a
// file compiled for AVX2, the test itself may already use AVX2 instructions. Each is defined for the
// processors that may have the row.
#pragma once

namespace tilefold::cpu {

bool supports_scalar();
bool supports_avx2();
bool supports_avx512();
bool supports_avx512_bf16();
bool supports_neon();
bool supports_neon_dot();

}  // namespace tilefold::cpu
