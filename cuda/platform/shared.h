// Memory that the threads of a block share, as one struct per kernel:
//
//     struct Shared { SharedArray<float, 64> sums; };
//     Shared& shared = shared_memory<Shared>();
//
// Grids state sizeof(Shared) as their shared bytes.
#pragma once
#include <cstdint>

#include "cuda/platform/cuda.h"

namespace tilefold::cuda {

// An array whose indices the emulation checks.
template <class T, int n>
struct SharedArray {
  static constexpr int size = n;
  T values[n];

  __device__ T& operator[](int64_t i) {
#ifdef TILEFOLD_EMULATE_CUDA
    if (i < 0 || i >= n)
      emulation::fail("index " + std::to_string(i) + " of a shared array of " + std::to_string(n));
#endif
    return values[i];
  }
};

#ifdef TILEFOLD_EMULATE_CUDA
template <class Shared>
Shared& shared_memory() {
  if (sizeof(Shared) > emulation::shared_bytes())
    emulation::fail("a kernel uses " + std::to_string(sizeof(Shared)) + " shared bytes, and was " +
                    "launched with " + std::to_string(emulation::shared_bytes()));
  return *reinterpret_cast<Shared*>(emulation::shared_memory());
}
#else
template <class Shared>
__device__ Shared& shared_memory() {
  extern __shared__ __align__(16) unsigned char memory[];
  return *reinterpret_cast<Shared*>(memory);
}
#endif

}  // namespace tilefold::cuda
