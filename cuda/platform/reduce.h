// Sums and maxima over the threads of a block, in an order that the number of threads determines.
#pragma once
#include <cstdint>

#include "cuda/platform/cuda.h"
#include "cuda/platform/shared.h"

namespace tilefold::cuda {

constexpr int warp_size = 32;
constexpr uint32_t all_lanes = 0xffffffffu;

template <class T>
struct ReduceShared {
  SharedArray<T, 32> warps;
};

// combine(a, b) of the values of all threads, for every thread. Threads are a multiple of 32.
template <class T, class Combine>
__device__ T reduce_block(ReduceShared<T>& shared, T value, Combine combine) {
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  const int warp = static_cast<int>(threadIdx.x) / warp_size;
  const int warps = static_cast<int>(blockDim.x) / warp_size;
  for (int step = warp_size / 2; step > 0; step /= 2)
    value = combine(value, __shfl_xor_sync(all_lanes, value, step));
  __syncthreads();  // the array may still be read
  if (lane == 0) shared.warps[warp] = value;
  __syncthreads();
  T all = shared.warps[0];
  for (int w = 1; w < warps; ++w) all = combine(all, shared.warps[w]);
  return all;
}

template <class T>
__device__ T sum_block(ReduceShared<T>& shared, T value) {
  return reduce_block(shared, value, [](T a, T b) { return a + b; });
}

template <class T>
__device__ T max_block(ReduceShared<T>& shared, T value) {
  return reduce_block(shared, value, [](T a, T b) { return a > b ? a : b; });
}

// *at = max(*at, value), in one step: as integers, which have the order of floats of one sign.
__device__ inline void raise_to(float* at, float value) {
  value += 0.0f;  // -0 would be below every other number
  if (value >= 0)
    atomicMax(reinterpret_cast<int32_t*>(at), static_cast<int32_t>(__float_as_uint(value)));
  else
    atomicMin(reinterpret_cast<uint32_t*>(at), __float_as_uint(value));
}

// Counts of callers may be anything, so that a sum may wrap around.
__device__ inline void add_wrapping(int64_t* at, int64_t value) {
  atomicAdd(reinterpret_cast<AtomicWord*>(at), static_cast<AtomicWord>(value));
}

}  // namespace tilefold::cuda
