#include "cuda/emulation/block.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <vector>

#include "check.h"
#include "cuda/emulation/fiber.h"
#include "cuda/emulation/order.h"
#include "parallel.h"

namespace tilefold::cuda::emulation {
namespace {

enum class State { ready, at_block_barrier, at_warp_operation, finished };

struct Thread {
  State state = State::finished;
  bool begun = false;
  uint32_t mask = 0;
  Place place = {"", 0};
  WarpOperation operation = nullptr;
  void* operand = nullptr;
  Fiber* fiber = nullptr;
  Position position = {};
  DeferredWork copies, products, stores;
};

bool same(Place a, Place b) {
  return a.line == b.line && (a.file == b.file || std::strcmp(a.file, b.file) == 0);
}

std::string text(Place place) { return std::string(place.file) + ":" + std::to_string(place.line); }

std::string text(Dim3 d) {
  return "(" + std::to_string(d.x) + ", " + std::to_string(d.y) + ", " + std::to_string(d.z) + ")";
}

int64_t volume(Dim3 d) { return int64_t{d.x} * d.y * d.z; }

Dim3 place_in(Dim3 size, int64_t number) {
  return {static_cast<unsigned>(number % size.x), static_cast<unsigned>(number / size.x % size.y),
          static_cast<unsigned>(number / size.x / size.y)};
}

class Runner;
__thread Runner* current __attribute__((tls_model("initial-exec"))) = nullptr;
thread_local std::vector<std::unique_ptr<Fiber>> fibers;  // of all launches of a thread

class Runner {
 public:
  Runner(const Launch& launch, const char* kernel, const std::function<void()>& body)
      : launch_(launch), kernel_(kernel), body_(body) {
    const int64_t n = volume(launch.block);
    check<Fault>(n >= 1 && n <= max_block_threads && volume(launch.grid) >= 1, kernel,
                 ": invalid configuration: grid ", text(launch.grid), ", block ",
                 text(launch.block));
    threads_ = std::vector<Thread>(static_cast<std::size_t>(n));
    turns_ = order_.first(n);
    while (fibers.size() < threads_.size())
      fibers.push_back(std::make_unique<Fiber>(static_cast<int>(fibers.size())));
    for (std::size_t t = 0; t < threads_.size(); ++t) {
      threads_[t].fiber = fibers[t].get();
      const auto number = static_cast<int64_t>(t);
      threads_[t].position = {place_in(launch.block, number),
                              {},
                              launch.block,
                              launch.grid,
                              static_cast<int>(number % warp_threads)};
    }
  }

  void run() {
    current = this;
    for (const int64_t b : order_.first(volume(launch_.grid))) {
      block_ = place_in(launch_.grid, b);
      run_block();
      if (error_) break;
    }
    current = nullptr;
    if (error_) std::rethrow_exception(error_);
  }

  Thread& thread() { return *running_; }
  std::size_t shared_bytes() const { return launch_.shared_bytes; }
  unsigned char* shared() { return shared_.get(); }

  // Of the running thread: the others run meanwhile.
  void wait(State state, Place place) {
    Thread& self = *running_;
    self.state = state;
    self.place = place;
    Fiber::switch_between(*self.fiber, next());
    if (abandoned_) throw Abandoned();
  }

  [[noreturn]] void fail(const std::string& message) {
    check<Fault>(false, kernel_, ", block ", text(block_), ", thread ",
                 text(running_->position.thread), ": ", message);
    std::abort();  // not reached
  }

 private:
  struct Abandoned {};  // unwinds threads after an error of another

  static void enter(void* runner) {
    auto* const self = static_cast<Runner*>(runner);
    try {
      self->body_();
    } catch (const Abandoned&) {
    } catch (...) {
      if (!self->error_) self->error_ = std::current_exception();
    }
    Thread& thread = *self->running_;
    thread.state = State::finished;
    ++self->finished_;
    Fiber::finish_into(*thread.fiber, self->next());
  }

  // The fiber of the next thread of this round that can go on, or the scheduler at its end.
  Fiber& next() {
    while (!error_ && turn_ < turns_.size()) {
      Thread& thread = threads_[static_cast<std::size_t>(turns_[turn_++])];
      if (thread.state == State::ready) return enter_thread(thread);
    }
    return scheduler_;
  }

  Fiber& enter_thread(Thread& thread) {
    running_ = &thread;
    position = &thread.position;
    thread.begun = true;
    return *thread.fiber;
  }

  void run_block() {
    constexpr int poison = 0xA5;
    // A new array for each block, of the exact size, so that AddressSanitizer sees its ends.
    shared_.reset(new unsigned char[launch_.shared_bytes]);
    std::memset(shared_.get(), poison, launch_.shared_bytes);
    finished_ = 0;
    for (Thread& thread : threads_) {
      thread.state = State::ready;
      thread.begun = false;
      thread.copies.clear();
      thread.products.clear();
      thread.stores.clear();
      thread.position.block = block_;
      thread.fiber->prepare(&Runner::enter, this);
    }
    while (finished_ < threads_.size() && !error_) {
      order_.next(turns_);
      turn_ = 0;
      Fiber& first = next();
      if (&first != &scheduler_) Fiber::switch_between(scheduler_, first);
      if (!error_ && finished_ < threads_.size()) release();
    }
    if (error_) abandon();
  }

  // Lets threads go on whose operation or barrier is complete.
  void release() {
    const bool warps = release_warps(), block = release_block();
    if (!warps && !block) deadlock();
  }

  bool release_warps() {
    bool any = false;
    for (std::size_t first = 0; first < threads_.size(); first += warp_threads)
      for (std::size_t t = first; t < std::min(threads_.size(), first + warp_threads); ++t)
        if (threads_[t].state == State::at_warp_operation && complete(first, threads_[t])) {
          finish(first, threads_[t]);
          any = true;
        }
    return any;
  }

  // Whether all threads of the mask are at the same operation.
  bool complete(std::size_t first, const Thread& one) {
    for (std::size_t l = 0; l < warp_threads; ++l) {
      if (!(one.mask >> l & 1)) continue;
      if (first + l >= threads_.size()) return false;
      const Thread& other = threads_[first + l];
      if (other.state != State::at_warp_operation || other.mask != one.mask ||
          other.operation != one.operation || !same(other.place, one.place))
        return false;
    }
    return true;
  }

  void finish(std::size_t first, const Thread& one) {
    const uint32_t mask = one.mask;
    void* operands[warp_threads] = {};
    for (std::size_t l = 0; l < warp_threads; ++l)
      if (mask >> l & 1) operands[l] = threads_[first + l].operand;
    if (one.operation) one.operation(operands);
    for (std::size_t l = 0; l < warp_threads; ++l)
      if (mask >> l & 1) threads_[first + l].state = State::ready;
  }

  // A thread that has left the kernel is missing at every barrier.
  bool release_block() {
    for (const Thread& thread : threads_)
      if (thread.state != State::at_block_barrier || !same(thread.place, threads_[0].place))
        return false;
    for (Thread& thread : threads_) thread.state = State::ready;
    return true;
  }

  // No thread can go on.
  void deadlock() {
    std::string message = std::string(kernel_) + ", block " + text(block_) + ": divergent barrier:";
    Place shown = {"", 0};
    for (const Thread& thread : threads_) {
      if (thread.state == State::finished || same(thread.place, shown)) continue;
      shown = thread.place;
      message += " thread " + text(thread.position.thread) + " waits at " + text(shown) + ";";
    }
    error_ = std::make_exception_ptr(
        Fault(message + " " + std::to_string(finished_) + " threads have finished"));
  }

  // Unwinds the threads that wait; one that has not begun has nothing to unwind.
  void abandon() {
    abandoned_ = true;
    for (Thread& thread : threads_)
      if (thread.begun && thread.state != State::finished)
        Fiber::switch_between(scheduler_, enter_thread(thread));
  }

  Launch launch_;
  const char* kernel_;
  const std::function<void()>& body_;
  Order order_;
  std::vector<Thread> threads_;
  std::vector<int64_t> turns_;  // of a round
  std::size_t turn_ = 0, finished_ = 0;
  Fiber scheduler_;
  Thread* running_ = nullptr;
  Dim3 block_;
  std::unique_ptr<unsigned char[]> shared_;
  std::exception_ptr error_;
  bool abandoned_ = false;
};

}  // namespace

__thread const Position* position = nullptr;

void run(const Launch& launch, const char* kernel, const std::function<void()>& body) {
  const DefaultFloatEnvironment environment;
  Runner(launch, kernel, body).run();
}

unsigned char* shared_memory() { return current->shared(); }
std::size_t shared_bytes() { return current->shared_bytes(); }
void fail(const std::string& message) { current->fail(message); }

void wait_for_block(Place place) { current->wait(State::at_block_barrier, place); }

void wait_for_warp(uint32_t mask, Place place, WarpOperation operation, void* operand) {
  Thread& thread = current->thread();
  if (!(mask >> thread.position.lane & 1))
    fail("a warp operation at " + text(place) + " does not name the thread that calls it");
  thread.mask = mask;
  thread.operation = operation;
  thread.operand = operand;
  current->wait(State::at_warp_operation, place);
}

DeferredWork& background_copies() { return current->thread().copies; }
DeferredWork& background_products() { return current->thread().products; }
DeferredWork& unfenced_stores() { return current->thread().stores; }

}  // namespace tilefold::cuda::emulation
