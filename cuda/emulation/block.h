// Runs the threads of one block at a time, each as a fiber. A thread runs until it needs others: at a
// barrier of the block, or at an operation of its warp. These complete when all threads that they
// name have come, and a thread that waits for one that cannot come is an error: a divergent barrier.
//
// What a block computes must not depend on the order in which its threads run. Running them in
// several orders shows most races and missing barriers as different results, since a thread goes as
// far as it can before the next one starts.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <stdexcept>
#include <string>

#include "cuda/emulation/deferred_work.h"

namespace tilefold::cuda::emulation {

constexpr int warp_threads = 32, max_block_threads = 1024;

struct Dim3 {
  unsigned x = 1, y = 1, z = 1;
};

struct Fault : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// A place in the source of a kernel, for messages and to tell barriers apart.
struct Place {
  const char* file;
  int line;
};

// Computes an operation of a warp when its threads have come. Operands have an entry for each lane,
// null for those that do not take part, and hold the results afterwards.
using WarpOperation = void (*)(void* const (&operands)[warp_threads]);

struct Launch {
  Dim3 grid, block;
  std::size_t shared_bytes = 0;
};

// Runs a kernel for every thread of every block of a grid, in the order of the variable
// TILEFOLD_CUDA_ORDER: forward, backward, or shuffled:SEED. Throws Fault.
void run(const Launch& launch, const char* kernel, const std::function<void()>& body);

// ---- for the thread that runs ------------------------------------------------------------------

struct Position {
  Dim3 thread, block, block_size, grid_size;
  int lane;
};
// Read at every step of a thread.
extern __thread const Position* position __attribute__((tls_model("initial-exec")));

void wait_for_block(Place place);
void wait_for_warp(uint32_t mask, Place place, WarpOperation operation, void* operand);
// Copies in the background: a thread sees the bytes of a group only when it has waited for it.
DeferredWork& background_copies();
// Products in the background, which read shared memory until the thread has waited for them; and
// stores that such products see only after a fence of the thread.
DeferredWork& background_products();
DeferredWork& unfenced_stores();
// Memory that the threads of a block share, poisoned when the block begins.
unsigned char* shared_memory();
std::size_t shared_bytes();
[[noreturn]] void fail(const std::string& message);

}  // namespace tilefold::cuda::emulation
