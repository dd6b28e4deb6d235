#include "cuda/emulation/fiber.h"

#include <cstdint>
#include <cstdlib>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#ifdef __x86_64__
// Saves the registers that a call preserves on the current stack and its pointer in *from, and
// continues with what was saved at `to`.
extern "C" void tilefold_switch_stack(void** from, void* to);
asm(R"(
.text
.hidden tilefold_switch_stack
.globl tilefold_switch_stack
.type tilefold_switch_stack, @function
tilefold_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size tilefold_switch_stack, . - tilefold_switch_stack
)");
#endif

namespace tilefold::cuda::emulation {
namespace {

#ifdef __SANITIZE_ADDRESS__
constexpr std::size_t stack_bytes = 256 << 10;  // frames have red zones
#else
constexpr std::size_t stack_bytes = 64 << 10;
#endif

// What was left last, and what runs: looked up by a fiber that begins.
__thread Fiber* left __attribute__((tls_model("initial-exec"))) = nullptr;
__thread Fiber* entered __attribute__((tls_model("initial-exec"))) = nullptr;

}  // namespace

Fiber::Fiber(int number)
    : stack_(new char[stack_bytes]),
      offset_(static_cast<std::size_t>(number % 64) * 192),
      memory_(stack_.get()),
      memory_bytes_(stack_bytes) {}

Fiber::~Fiber() {
#ifdef __SANITIZE_ADDRESS__
  if (stack_) __asan_unpoison_memory_region(stack_.get(), stack_bytes);
#endif
}

void Fiber::prepare(void (*function)(void*), void* argument) {
  function_ = function;
  argument_ = argument;
#ifdef __SANITIZE_ADDRESS__
  __asan_unpoison_memory_region(stack_.get(), stack_bytes);
#endif
#ifdef __x86_64__
  // As if begin() had been called from an address that is never returned to.
  constexpr int saved_registers = 6;
  const auto end = reinterpret_cast<uintptr_t>(stack_.get() + stack_bytes - offset_) / 16 * 16;
  auto* top = reinterpret_cast<void**>(end) - 1;
  *top = nullptr;
  *--top = reinterpret_cast<void*>(&Fiber::begin);
  for (int i = 0; i < saved_registers; ++i) *--top = nullptr;
  suspended_ = top;
#else
  getcontext(&suspended_);
  suspended_.uc_stack.ss_sp = stack_.get();
  suspended_.uc_stack.ss_size = stack_bytes;
  suspended_.uc_link = nullptr;
  makecontext(&suspended_, &Fiber::begin, 0);
#endif
}

void Fiber::begin() {
#ifdef __SANITIZE_ADDRESS__
  // The stack of what runs already becomes known when it is left for the first time.
  __sanitizer_finish_switch_fiber(nullptr, &left->memory_, &left->memory_bytes_);
#endif
  entered->function_(entered->argument_);
  std::abort();  // it ends with finish_into()
}

void Fiber::switch_between(Fiber& from, Fiber& to) { change_stack(from, to, &from.fake_stack_); }

void Fiber::finish_into(Fiber& from, Fiber& to) {
  change_stack(from, to, nullptr);
  std::abort();  // nothing switches to a fiber that has ended
}

inline void Fiber::change_stack(Fiber& from, Fiber& to, [[maybe_unused]] void** fake_stack) {
  left = &from;
  entered = &to;
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_start_switch_fiber(fake_stack, to.memory_, to.memory_bytes_);
#endif
#ifdef __x86_64__
  tilefold_switch_stack(&from.suspended_, to.suspended_);
#else
  swapcontext(&from.suspended_, &to.suspended_);
#endif
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_finish_switch_fiber(from.fake_stack_, &left->memory_, &left->memory_bytes_);
#endif
}

}  // namespace tilefold::cuda::emulation
