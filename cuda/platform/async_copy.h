// Copies of 16 bytes from global to shared memory in the background (cp.async). A thread waits for
// its own copies; a barrier then shows them to others.
#pragma once
#include <cstdint>

#include "cuda/platform/cuda.h"

namespace tilefold::cuda {

constexpr int async_copy_bytes = 16;

#ifdef TILEFOLD_EMULATE_CUDA

// Zeros unless `given`; both addresses are aligned to 16 bytes.
inline void copy_async(void* shared, const void* global, bool given) {
  if (reinterpret_cast<uintptr_t>(shared) % async_copy_bytes ||
      (given && reinterpret_cast<uintptr_t>(global) % async_copy_bytes))
    emulation::fail("an asynchronous copy is not aligned to 16 bytes");
  const void* const from = given ? global : nullptr;
  emulation::background_copies().add([shared, from] {
    if (from)
      std::memcpy(shared, from, async_copy_bytes);
    else
      std::memset(shared, 0, async_copy_bytes);
  });
}
inline void commit_copies() { emulation::background_copies().commit(); }
// Until at most `groups_left` committed groups are under way.
template <int groups_left>
void wait_for_copies() {
  emulation::background_copies().wait(groups_left);
}

#else

__device__ inline void copy_async(void* shared, const void* global, bool given) {
  const auto to = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(global),
               "r"(given ? async_copy_bytes : 0));
}
__device__ inline void commit_copies() { asm volatile("cp.async.commit_group;"); }
template <int groups_left>
__device__ void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(groups_left));
}

#endif

}  // namespace tilefold::cuda
