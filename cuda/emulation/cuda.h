// The part of CUDA C++ that kernels use, for the host: the names and the meanings of NVIDIA's CUDA
// C++ Programming Guide. Kernels run through run() of block.h.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "cuda/emulation/block.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__
#define TILEFOLD_UNROLL

#define threadIdx (tilefold::cuda::emulation::position->thread)
#define blockIdx (tilefold::cuda::emulation::position->block)
#define blockDim (tilefold::cuda::emulation::position->block_size)
#define gridDim (tilefold::cuda::emulation::position->grid_size)

namespace tilefold::cuda {

// The last parameters of a function that waits: the place of the call.
#define TILEFOLD_PLACE int line = __builtin_LINE(), const char *file = __builtin_FILE()

inline void __syncthreads(TILEFOLD_PLACE) { emulation::wait_for_block({file, line}); }
inline void __syncwarp(uint32_t mask = ~0u, TILEFOLD_PLACE) {
  emulation::wait_for_warp(mask, {file, line}, nullptr, nullptr);
}

namespace emulation {

// Each lane of an exchange gives a value and gets that of another lane.
template <class T>
struct Exchange {
  T value;
  int from;
};

template <class T>
void exchange(void* const (&operands)[warp_threads]) {
  T values[warp_threads] = {};
  bool given[warp_threads] = {};
  for (int l = 0; l < warp_threads; ++l)
    if (operands[l]) {
      values[l] = static_cast<Exchange<T>*>(operands[l])->value;
      given[l] = true;
    }
  for (int l = 0; l < warp_threads; ++l) {
    if (!operands[l]) continue;
    auto* const mine = static_cast<Exchange<T>*>(operands[l]);
    // What an inactive lane gives is undefined.
    if (given[mine->from])
      mine->value = values[mine->from];
    else
      std::memset(&mine->value, 0xA5, sizeof(T));
  }
}

struct Vote {
  bool mine;
  uint32_t all;
};

inline void vote(void* const (&operands)[warp_threads]) {
  uint32_t all = 0;
  for (int l = 0; l < warp_threads; ++l)
    if (operands[l] && static_cast<Vote*>(operands[l])->mine) all |= 1u << l;
  for (void* const operand : operands)
    if (operand) static_cast<Vote*>(operand)->all = all;
}

template <class T>
T shuffle(uint32_t mask, T value, int from, Place place) {
  Exchange<T> mine = {value, from};
  wait_for_warp(mask, place, &exchange<T>, &mine);
  return mine.value;
}

}  // namespace emulation

template <class T>
T __shfl_xor_sync(uint32_t mask, T value, int other, int width = 32, TILEFOLD_PLACE) {
  const int lane = emulation::position->lane, from = lane ^ other;
  return emulation::shuffle(mask, value, from / width > lane / width ? lane : from, {file, line});
}

template <class T>
T __shfl_down_sync(uint32_t mask, T value, int by, TILEFOLD_PLACE) {
  const int lane = emulation::position->lane, from = lane + by;
  return emulation::shuffle(mask, value, from < emulation::warp_threads ? from : lane,
                            {file, line});
}

inline uint32_t __ballot_sync(uint32_t mask, bool predicate, TILEFOLD_PLACE) {
  emulation::Vote mine = {predicate, 0};
  emulation::wait_for_warp(mask, {file, line}, &emulation::vote, &mine);
  return mine.all;
}

inline bool __any_sync(uint32_t mask, bool predicate, TILEFOLD_PLACE) {
  return __ballot_sync(mask, predicate, line, file) != 0;
}

// Blocks run one after another, and threads of a block are switched at barriers and
// operations of warps alone.
template <class T, class U>
T atomicAdd(T* at, U value) {
  const T before = *at;
  *at = static_cast<T>(before + static_cast<T>(value));
  return before;
}
template <class T, class U>
T atomicMax(T* at, U value) {
  const T before = *at;
  *at = std::max(before, static_cast<T>(value));
  return before;
}

template <class T, class U>
T atomicMin(T* at, U value) {
  const T before = *at;
  *at = std::min(before, static_cast<T>(value));
  return before;
}

inline uint32_t __float_as_uint(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}
inline float __uint_as_float(uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}
inline int __popc(uint32_t x) { return __builtin_popcount(x); }

using std::exp;
using std::fabs;
using std::fma;
using std::log;
using std::log1p;
using std::rint;
using std::sqrt;

}  // namespace tilefold::cuda
