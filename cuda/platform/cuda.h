// What kernels are written in: CUDA C++, or its emulation on the host.
#pragma once
#include <cstdint>

#ifdef TILEFOLD_EMULATE_CUDA
#include "cuda/emulation/cuda.h"
#else
#include <cuda_runtime.h>
// Registers have no addresses: loops over arrays in registers must be unrolled.
#define TILEFOLD_UNROLL _Pragma("unroll")
#endif

namespace tilefold::cuda {

// 64 bits, as atomic operations take them.
#ifdef TILEFOLD_EMULATE_CUDA
using AtomicWord = uint64_t;
#else
using AtomicWord = unsigned long long;
#endif

}  // namespace tilefold::cuda
