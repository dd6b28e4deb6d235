// Small kernels, most of them wrong, to test what the emulation of CUDA shows of them:
//
//     faulty_kernels NAME    prints the results of 64 threads, or the fault
#include <cstdio>
#include <map>
#include <string>

#include "cuda/platform/async_copy.h"
#include "cuda/platform/launch.h"
#include "cuda/platform/reduce.h"
#include "cuda/platform/shared.h"

namespace tilefold::cuda {
namespace {

constexpr int threads = 64;

struct Shared {
  SharedArray<int, threads> values;
};

// Each thread gets the value of its opposite.
template <bool waits>
__global__ void reverse(int* out) {
  Shared& shared = shared_memory<Shared>();
  const int t = static_cast<int>(threadIdx.x);
  shared.values[t] = t + 1;
  if (waits) __syncthreads();
  out[t] = shared.values[threads - 1 - t];
}

__global__ void race(int* out) {
  Shared& shared = shared_memory<Shared>();
  shared.values[0] = static_cast<int>(threadIdx.x);
  __syncthreads();
  out[threadIdx.x] = shared.values[0];
}

__global__ void two_barriers(int* out) {
  if (threadIdx.x < 10)
    __syncthreads();
  else
    __syncthreads();
  out[threadIdx.x] = 1;
}

__global__ void left_early(int* out) {
  if (threadIdx.x >= 10) return;
  __syncthreads();
  out[threadIdx.x] = 1;
}

__global__ void half_a_warp(int* out) {
  int value = 1;
  if (threadIdx.x % 32 < 16) value = __shfl_xor_sync(all_lanes, value, 1);
  out[threadIdx.x] = value;
}

__global__ void beyond_the_end(int* out) {
  Shared& shared = shared_memory<Shared>();
  shared.values[static_cast<int>(threadIdx.x) + 1] = 1;
  out[threadIdx.x] = 1;
}

// Beyond the memory of the launch, which AddressSanitizer sees.
__global__ void beyond_the_launch(int* out) {
  Shared& shared = shared_memory<Shared>();
  out[threadIdx.x] = (&shared.values[0])[threads + threadIdx.x % 2];
}

__global__ void too_little_memory(int* out) {
  struct Larger {
    SharedArray<int, threads + 1> values;
  };
  out[threadIdx.x] = shared_memory<Larger>().values[0];
}

template <bool waits>
__global__ void copy(int* out) {
  Shared& shared = shared_memory<Shared>();
  const int t = static_cast<int>(threadIdx.x);
  out[t] = t + 1;
  __syncthreads();
  if (t < threads / 4) copy_async(&shared.values[4 * t], out + 4 * t, t > 0);
  commit_copies();
  if (waits) wait_for_copies<0>();
  __syncthreads();
  out[t] = shared.values[t];
}

__global__ void sums(int* out) {
  struct Sums {
    ReduceShared<int> sums;
  };
  out[threadIdx.x] = sum_block(shared_memory<Sums>().sums, static_cast<int>(threadIdx.x));
}

using Kernel = void (*)(int*);
const std::map<std::string, Kernel> kernels = {
    {"right", reverse<true>},        {"missing_barrier", reverse<false>},
    {"race", race},                  {"two_barriers", two_barriers},
    {"left_early", left_early},      {"half_a_warp", half_a_warp},
    {"beyond_the_end", beyond_the_end}, {"beyond_the_launch", beyond_the_launch},
    {"too_little_memory", too_little_memory}, {"copy", copy<true>},
    {"copy_without_wait", copy<false>}, {"sums", sums},
};

}  // namespace

int run(const std::string& name) {
  alignas(16) int out[threads] = {};
  try {
    launch(name.c_str(), kernels.at(name), {1, 1, threads, sizeof(Shared)},
           Stream("test", Device{DeviceType::cuda, 0}), out);
  } catch (const emulation::Fault& fault) {
    std::printf("%s\n", fault.what());
    return 1;
  }
  for (const int value : out) std::printf("%d ", value);
  std::printf("\n");
  return 0;
}

}  // namespace tilefold::cuda

int main(int, char** arguments) { return tilefold::cuda::run(arguments[1]); }
