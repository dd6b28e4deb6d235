// A function with a stack of its own, which the emulator starts, pauses and continues. Switching
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
  // Stacks of fibers with different numbers begin at different cache sets.
  explicit Fiber(int number);
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;
  ~Fiber();

  // The next resume() begins with function(argument), which must not throw. The function before must
  // have returned.
  void prepare(void (*function)(void*), void* argument);
  // Runs the function until it pauses or returns.
  void resume();
  // Continues after resume(); called by the function.
  void pause();
  bool running() const { return running_; }

 private:
  static void begin();
  void switch_to_fiber();
  void switch_to_caller(bool for_good);

  std::unique_ptr<char[]> stack_;
  std::size_t offset_;  // of its end from the end of the memory
  void (*function_)(void*) = nullptr;
  void* argument_ = nullptr;
  bool running_ = false;  // began and did not return
#ifdef __x86_64__
  void* own_ = nullptr;  // stack pointers of those that are suspended
  void* caller_ = nullptr;
#else
  ucontext_t own_, caller_;
#endif
  // Of AddressSanitizer, which must know every stack.
  void* fake_stack_ = nullptr;
  const void* caller_stack_ = nullptr;
  std::size_t caller_stack_bytes_ = 0;
};

}  // namespace tilefold::cuda::emulation
