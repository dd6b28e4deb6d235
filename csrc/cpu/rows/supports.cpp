#include "cpu/rows/supports.h"

namespace tilefold::cpu {

bool supports_scalar() { return true; }

#if defined(__x86_64__) || defined(_M_X64)
bool supports_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
         __builtin_cpu_supports("f16c");
}

bool supports_avx512() {
#ifdef TILEFOLD_EMULATE_AVX512
  return true;
#else
  return supports_avx2() && __builtin_cpu_supports("avx512f") &&
         __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
#endif
}

bool supports_avx512_bf16() {
#ifdef TILEFOLD_EMULATE_AVX512
  return true;
#else
  return supports_avx512() && __builtin_cpu_supports("avx512bf16");
#endif
}
#endif

}  // namespace tilefold::cpu
