// A function with a stack of its own, which the emulator starts, leaves and continues. Switching
// costs a few nanoseconds on x86-64; elsewhere it goes through ucontext.
#pragma once
#include <cstddef>
#include <memory>

#ifndef __x86_64__
#include <ucontext.h>
#endif

namespace tilefold::cuda::emulation {

class Fiber {
 public:
  // What runs already, on the stack of its caller.
  Fiber() = default;
  // Stacks of fibers with different numbers begin at different cache sets.
  explicit Fiber(int number);
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;
  ~Fiber();

  // The next switch to this fiber begins function(argument), which must not throw and ends with
  // finish_into(), not by returning. The function before must have ended.
  void prepare(void (*function)(void*), void* argument);
  // Continues `to`. Returns when something switches to `from`, which is the fiber that runs.
  static void switch_between(Fiber& from, Fiber& to);
  [[noreturn]] static void finish_into(Fiber& from, Fiber& to);

 private:
  static void begin();
  static void change_stack(Fiber& from, Fiber& to, void** fake_stack);

  std::unique_ptr<char[]> stack_;
  std::size_t offset_ = 0;  // of its end from the end of the memory
  void (*function_)(void*) = nullptr;
  void* argument_ = nullptr;
#ifdef __x86_64__
  void* suspended_ = nullptr;  // stack pointer
#else
  ucontext_t suspended_;
#endif
  // Of AddressSanitizer, which must know every stack.
  void* fake_stack_ = nullptr;
  const void* memory_ = nullptr;
  std::size_t memory_bytes_ = 0;
};

}  // namespace tilefold::cuda::emulation
