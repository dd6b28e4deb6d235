// Sums and maxima over threads, in an order that the number of threads determines.
#pragma once
#include <cstdint>
#include <cstring>

#include "cuda/platform/cuda.h"
#include "cuda/platform/shared.h"

namespace tilefold::cuda {

constexpr int warp_size = 32;
constexpr uint32_t all_lanes = 0xffffffffu;

struct Sum {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a + b;
  }
};

struct Max {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a > b ? a : b;
  }
};

// The value of another lane.
template <class T>
__device__ T shuffle_xor(const T& value, int other) {
  static_assert(sizeof(T) % sizeof(uint32_t) == 0, "a lane gives whole words");
  constexpr int n = sizeof(T) / sizeof(uint32_t);
  uint32_t words[n];
  memcpy(words, &value, sizeof(T));
  TILEFOLD_UNROLL
  for (int i = 0; i < n; ++i) words[i] = __shfl_xor_sync(all_lanes, words[i], other);
  T result;
  memcpy(&result, words, sizeof(T));
  return result;
}

// The combination of the values of `width` neighbouring lanes, a power of two, for each of them; those
// at a distance of width / 2 are combined first. All lanes of the warp must call.
template <int width, class Combine, class T>
__device__ T reduce_by_shuffles(T value) {
  TILEFOLD_UNROLL
  for (int step = width / 2; step > 0; step /= 2)
    value = Combine()(value, shuffle_xor(value, step));
  return value;
}

// The sum of the values of those lanes of the warp whose number is larger.
__device__ inline int32_t sum_of_higher_by_shuffles(int32_t value) {
  int32_t sum = value;
  for (int step = 1; step < warp_size; step *= 2) {
    const int32_t other = __shfl_down_sync(all_lanes, sum, step);
    if (static_cast<int>(threadIdx.x) % warp_size + step < warp_size) sum += other;
  }
  return sum - value;
}

// The same: the emulation computes them in one step, which is several times as fast.
#ifdef TILEFOLD_EMULATE_CUDA

namespace emulation {

template <int width, class Combine, class T>
void reduce(void* const (&operands)[warp_threads]) {
  const auto value = [&](int l) -> T& { return *static_cast<T*>(operands[l]); };
  for (int step = width / 2; step > 0; step /= 2) {
    T before[warp_threads];
    for (int l = 0; l < warp_threads; ++l) before[l] = value(l);
    for (int l = 0; l < warp_threads; ++l) value(l) = Combine()(before[l], before[l ^ step]);
  }
}

inline void sum_of_higher_lanes(void* const (&operands)[warp_threads]) {
  int32_t sum = 0;
  for (int l = warp_threads - 1; l >= 0; --l) {
    auto* const value = static_cast<int32_t*>(operands[l]);
    const int32_t own = *value;
    *value = sum;
    sum += own;
  }
}

}  // namespace emulation

template <int width, class Combine, class T>
T reduce_lanes(T value, TILEFOLD_PLACE) {
  emulation::wait_for_warp(all_lanes, {file, line}, &emulation::reduce<width, Combine, T>, &value);
  return value;
}

inline int32_t sum_of_higher_lanes(int32_t value, TILEFOLD_PLACE) {
  emulation::wait_for_warp(all_lanes, {file, line}, &emulation::sum_of_higher_lanes, &value);
  return value;
}

#else

template <int width, class Combine, class T>
__device__ T reduce_lanes(T value) {
  return reduce_by_shuffles<width, Combine>(value);
}

__device__ inline int32_t sum_of_higher_lanes(int32_t value) {
  return sum_of_higher_by_shuffles(value);
}

#endif

template <class T>
struct ReduceShared {
  SharedArray<T, 32> warps;
};

// Combine of the values of all threads, for every thread. Threads are a multiple of 32.
template <class Combine, class T>
__device__ T reduce_block(ReduceShared<T>& shared, T value) {
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  const int warp = static_cast<int>(threadIdx.x) / warp_size;
  const int warps = static_cast<int>(blockDim.x) / warp_size;
  value = reduce_lanes<warp_size, Combine>(value);
  __syncthreads();  // the array may still be read
  if (lane == 0) shared.warps[warp] = value;
  __syncthreads();
  T all = shared.warps[0];
  for (int w = 1; w < warps; ++w) all = Combine()(all, shared.warps[w]);
  return all;
}

template <class T>
__device__ T sum_block(ReduceShared<T>& shared, T value) {
  return reduce_block<Sum>(shared, value);
}

template <class T>
__device__ T max_block(ReduceShared<T>& shared, T value) {
  return reduce_block<Max>(shared, value);
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
