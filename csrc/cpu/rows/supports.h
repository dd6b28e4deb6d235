// Whether this machine can run a row. Defined in a file with baseline flags: a test for AVX2 inside
// a file compiled for AVX2 may already be an AVX2 instruction.
#pragma once

namespace tilefold::cpu {

bool supports_scalar();
bool supports_avx2();
bool supports_avx512();
bool supports_avx512_bf16();

}  // namespace tilefold::cpu
