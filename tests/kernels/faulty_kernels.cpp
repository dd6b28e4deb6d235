// Small kernels, most of them wrong, to test what the emulation of CUDA shows of them:
//
//     faulty_kernels NAME    prints the results of all threads, or the fault
#include <cstdio>
#include <map>
#include <string>

#include "cuda/platform/async_copy.h"
#include "cuda/platform/group_multiply.h"
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

// Products of four warps. A has the number of the stage in every byte, B one in the first of each
// row, so that every sum of a stage is its number.
constexpr int operand_pieces = (group_rows + group_columns) * group_depth / piece_row_bytes;
struct GroupShared {
  SharedArray<Piece, operand_pieces> operands;
};

enum class Planted { none, no_fence, no_wait, overwritten };

template <Planted fault>
__global__ void products(int* out) {
  GroupShared& shared = shared_memory<GroupShared>();
  const int t = static_cast<int>(threadIdx.x);
  GroupSums sums = {};
  for (uint32_t stage = 1; stage <= 2; ++stage) {
    constexpr int pieces_of_a = group_rows * group_depth / piece_row_bytes;
    for (int i = t; i < operand_pieces; i += group_threads) {
      const bool first = i >= pieces_of_a && i < pieces_of_a + group_columns;  // along K
      const uint32_t a = stage * 0x01010101u;
      store_operand(&shared.operands[i],
                    i < pieces_of_a ? Piece{{a, a, a, a}} : Piece{{first ? 1u : 0u, 0, 0, 0}});
    }
    if (fault != Planted::no_fence) fence_operands();
    __syncthreads();
    begin_products();
    multiply_group(
        sums, operand(&shared.operands[0], group_rows * piece_row_bytes, piece_bytes),
        operand(&shared.operands[pieces_of_a], group_columns * piece_row_bytes, piece_bytes));
    commit_products();
    if (fault != Planted::no_wait && (fault != Planted::overwritten || stage == 2))
      wait_for_products<0>();
    if (fault != Planted::overwritten) __syncthreads();
  }
  for (const int sum : sums.sum)
    if (sum != sums.sum[0]) emulation::fail("sums differ");
  out[t] = sums.sum[0];
}

// The emulation's steps for a warp as a whole, compared with the shuffles that GPUs do.
__global__ void reductions(int* out) {
  struct Pair {
    double x;
    int64_t n;
    Pair operator+(const Pair& other) const { return {x + other.x, n + other.n}; }
  };
  const int t = static_cast<int>(threadIdx.x);
  const Pair mine = {1.0 / (t + 1), t};
  const Pair fast = reduce_lanes<warp_size, Sum>(mine);
  const Pair slow = reduce_by_shuffles<warp_size, Sum>(mine);
  const bool same = fast.x == slow.x && fast.n == slow.n &&
                    reduce_lanes<16, Sum>(mine.x) == reduce_by_shuffles<16, Sum>(mine.x) &&
                    reduce_lanes<4, Max>(mine.n) == reduce_by_shuffles<4, Max>(mine.n);
  out[t] =
      same && sum_of_higher_lanes(t) == sum_of_higher_by_shuffles(t) ? sum_of_higher_lanes(t) : -1;
}

using Kernel = void (*)(int*);
const std::map<std::string, Kernel> kernels = {
    {"right", reverse<true>},
    {"missing_barrier", reverse<false>},
    {"race", race},
    {"two_barriers", two_barriers},
    {"left_early", left_early},
    {"half_a_warp", half_a_warp},
    {"beyond_the_end", beyond_the_end},
    {"beyond_the_launch", beyond_the_launch},
    {"too_little_memory", too_little_memory},
    {"copy", copy<true>},
    {"copy_without_wait", copy<false>},
    {"sums", sums},
    {"reductions", reductions},
};
// Of four warps.
const std::map<std::string, Kernel> group_kernels = {
    {"products", products<Planted::none>},
    {"no_fence", products<Planted::no_fence>},
    {"no_wait", products<Planted::no_wait>},
    {"overwritten", products<Planted::overwritten>},
};

}  // namespace

int run(const std::string& name) {
  alignas(16) int out[group_threads] = {};
  const bool of_groups = group_kernels.count(name) > 0;
  const int n = of_groups ? group_threads : threads;
  const auto shared = static_cast<int64_t>(of_groups ? sizeof(GroupShared) : sizeof(Shared));
  const Kernel kernel = (of_groups ? group_kernels : kernels).at(name);
  try {
    launch(name.c_str(), kernel, {1, 1, n, shared}, Stream("test", Device{DeviceType::cuda, 0}),
           out);
  } catch (const emulation::Fault& fault) {
    std::printf("%s\n", fault.what());
    return 1;
  }
  for (int t = 0; t < n; ++t) std::printf("%d ", out[t]);
  std::printf("\n");
  return 0;
}

}  // namespace tilefold::cuda

int main(int, char** arguments) { return tilefold::cuda::run(arguments[1]); }
