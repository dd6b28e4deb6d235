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

__attribute__((tls_model("initial-exec"))) thread_local Fiber* starting = nullptr;

}  // namespace

Fiber::Fiber(int number)
    : stack_(new char[stack_bytes]), offset_(static_cast<std::size_t>(number % 64) * 192) {}

Fiber::~Fiber() {
#ifdef __SANITIZE_ADDRESS__
  __asan_unpoison_memory_region(stack_.get(), stack_bytes);
#endif
}

void Fiber::prepare(void (*function)(void*), void* argument) {
  function_ = function;
  argument_ = argument;
  running_ = true;
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
  own_ = top;
#else
  getcontext(&own_);
  own_.uc_stack.ss_sp = stack_.get();
  own_.uc_stack.ss_size = stack_bytes;
  own_.uc_link = nullptr;
  makecontext(&own_, &Fiber::begin, 0);
#endif
}

void Fiber::resume() {
  starting = this;
  switch_to_fiber();
}

void Fiber::pause() { switch_to_caller(false); }

void Fiber::begin() {
  Fiber* const self = starting;
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_finish_switch_fiber(nullptr, &self->caller_stack_, &self->caller_stack_bytes_);
#endif
  self->function_(self->argument_);
  self->running_ = false;
  self->switch_to_caller(true);
  std::abort();  // a fiber that returned is never resumed
}

void Fiber::switch_to_fiber() {
#ifdef __SANITIZE_ADDRESS__
  void* fake_stack;
  __sanitizer_start_switch_fiber(&fake_stack, stack_.get(), stack_bytes);
#endif
#ifdef __x86_64__
  tilefold_switch_stack(&caller_, own_);
#else
  swapcontext(&caller_, &own_);
#endif
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_finish_switch_fiber(fake_stack, nullptr, nullptr);
#endif
}

void Fiber::switch_to_caller([[maybe_unused]] bool for_good) {
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_start_switch_fiber(for_good ? nullptr : &fake_stack_, caller_stack_,
                                 caller_stack_bytes_);
#endif
#ifdef __x86_64__
  tilefold_switch_stack(&own_, caller_);
#else
  swapcontext(&own_, &caller_);
#endif
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_finish_switch_fiber(fake_stack_, &caller_stack_, &caller_stack_bytes_);
#endif
}

}  // namespace tilefold::cuda::emulation
