#include "cuda/emulation/block.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <exception>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

#include "check.h"
#include "cuda/emulation/fiber.h"
#include "parallel.h"

namespace tilefold::cuda::emulation {
namespace {

enum class State { ready, at_block_barrier, at_warp_operation, finished };

struct Copy {
  void* to;
  const void* from;
  std::size_t bytes;
};

struct Thread {
  Fiber* fiber = nullptr;
  std::vector<Copy> open_group;
  std::deque<std::vector<Copy>> groups;
  Dim3 index;
  State state = State::finished;
  bool begun = false;
  Place place = {"", 0};
  uint32_t mask = 0;
  WarpOperation operation = nullptr;
  void* operand = nullptr;
};

// Permutations of threads and of blocks.
class Order {
 public:
  Order() {
    const char* name = std::getenv("TILEFOLD_CUDA_ORDER");
    name_ = name && *name ? name : "forward";
    const bool shuffled = name_.rfind("shuffled", 0) == 0;
    check<Fault>(name_ == "forward" || name_ == "backward" || shuffled,
                 "TILEFOLD_CUDA_ORDER must be forward, backward or shuffled:SEED, got ", name_);
    const std::size_t colon = name_.find(':');
    if (shuffled)
      random_.seed(colon == std::string::npos ? 0 : std::stoul(name_.substr(colon + 1)));
  }

  void arrange(std::vector<int64_t>& numbers) {
    std::iota(numbers.begin(), numbers.end(), int64_t{0});
    if (name_ == "backward") std::reverse(numbers.begin(), numbers.end());
    if (name_.rfind("shuffled", 0) == 0) std::shuffle(numbers.begin(), numbers.end(), random_);
  }

 private:
  std::string name_;
  std::mt19937 random_;
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
// Looked up at every step of a thread.
__attribute__((tls_model("initial-exec"))) thread_local Runner* current = nullptr;
thread_local std::vector<std::unique_ptr<Fiber>> fibers;  // of all launches of a thread

class Runner {
 public:
  Runner(const Launch& launch, const char* kernel, const std::function<void()>& body)
      : launch_(launch), kernel_(kernel), body_(body) {
    const int64_t threads = volume(launch.block);
    check<Fault>(threads >= 1 && threads <= max_block_threads && volume(launch.grid) >= 1, kernel,
                 ": invalid configuration: grid ", text(launch.grid), ", block ",
                 text(launch.block));
    threads_ = std::vector<Thread>(static_cast<std::size_t>(threads));
    while (fibers.size() < threads_.size())
      fibers.push_back(std::make_unique<Fiber>(static_cast<int>(fibers.size())));
    for (std::size_t t = 0; t < threads_.size(); ++t) {
      threads_[t].fiber = fibers[t].get();
      threads_[t].index = place_in(launch.block, static_cast<int64_t>(t));
    }
  }

  void run() {
    std::vector<int64_t> blocks(static_cast<std::size_t>(volume(launch_.grid)));
    order_.arrange(blocks);
    current = this;
    for (const int64_t b : blocks) {
      block_ = place_in(launch_.grid, b);
      run_block();
      if (error_) break;
    }
    current = nullptr;
    if (error_) std::rethrow_exception(error_);
  }

  Thread& thread() { return *running_; }
  int number() const { return static_cast<int>(running_ - threads_.data()); }
  Dim3 block() const { return block_; }
  const Launch& launch() const { return launch_; }
  unsigned char* shared() { return shared_.get(); }

  // Of the running thread.
  void wait(State state, Place place) {
    running_->state = state;
    running_->place = place;
    running_->fiber->pause();
    if (abandoned_) throw Abandoned();
  }

  [[noreturn]] void fail(const std::string& message) {
    check<Fault>(false, kernel_, ", block ", text(block_), ", thread ", text(running_->index), ": ",
                 message);
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
    self->running_->state = State::finished;
  }

  void run_block() {
    constexpr int poison = 0xA5;
    // A new array for each block, of the exact size, so that AddressSanitizer sees its ends.
    shared_.reset(new unsigned char[launch_.shared_bytes]);
    std::memset(shared_.get(), poison, launch_.shared_bytes);
    for (Thread& thread : threads_) {
      thread.state = State::ready;
      thread.begun = false;
      thread.open_group.clear();
      thread.groups.clear();
      thread.fiber->prepare(&Runner::enter, this);
    }
    std::vector<int64_t> turns(threads_.size());
    while (!finished() && !error_) {
      order_.arrange(turns);
      for (const int64_t t : turns) {
        running_ = &threads_[static_cast<std::size_t>(t)];
        if (running_->state != State::ready) continue;
        running_->begun = true;
        running_->fiber->resume();
        if (error_) break;
      }
      if (!error_) release();
    }
    if (error_) abandon();
  }

  bool finished() const {
    return std::all_of(threads_.begin(), threads_.end(),
                       [](const Thread& t) { return t.state == State::finished; });
  }

  // Lets threads go on whose operation or barrier is complete.
  void release() {
    bool any = release_warps();
    if (release_block()) any = true;
    if (!any && !finished()) deadlock();
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
    const Thread* first = nullptr;
    for (const Thread& thread : threads_) {
      if (thread.state != State::at_block_barrier) return false;
      if (!first) first = &thread;
      if (!same(thread.place, first->place)) return false;
    }
    for (Thread& thread : threads_) thread.state = State::ready;
    return true;
  }

  // No thread can go on.
  void deadlock() {
    std::string message = std::string(kernel_) + ", block " + text(block_) + ": divergent barrier:";
    Place shown = {"", 0};
    int n_finished = 0;
    for (const Thread& thread : threads_) {
      if (thread.state == State::finished) {
        ++n_finished;
        continue;
      }
      if (same(thread.place, shown)) continue;
      shown = thread.place;
      message += " thread " + text(thread.index) + " waits at " + text(shown) + ";";
    }
    error_ = std::make_exception_ptr(
        Fault(message + " " + std::to_string(n_finished) + " threads have finished"));
  }

  void abandon() {
    abandoned_ = true;
    for (Thread& thread : threads_) {
      running_ = &thread;
      // A thread that has not begun has nothing to unwind.
      if (thread.begun && thread.state != State::finished) thread.fiber->resume();
    }
  }

  Launch launch_;
  const char* kernel_;
  const std::function<void()>& body_;
  Order order_;
  std::vector<Thread> threads_;
  Thread* running_ = nullptr;
  Dim3 block_;
  std::unique_ptr<unsigned char[]> shared_;
  std::exception_ptr error_;
  bool abandoned_ = false;
};

}  // namespace

void run(const Launch& launch, const char* kernel, const std::function<void()>& body) {
  const DefaultFloatEnvironment environment;
  Runner(launch, kernel, body).run();
}

Dim3 thread_index() { return current->thread().index; }
Dim3 block_index() { return current->block(); }
Dim3 block_size() { return current->launch().block; }
Dim3 grid_size() { return current->launch().grid; }
int lane() { return current->number() % warp_threads; }
unsigned char* shared_memory() { return current->shared(); }
std::size_t shared_bytes() { return current->launch().shared_bytes; }
void fail(const std::string& message) { current->fail(message); }

void wait_for_block(Place place) { current->wait(State::at_block_barrier, place); }

void wait_for_warp(uint32_t mask, Place place, WarpOperation operation, void* operand) {
  if (!(mask >> lane() & 1))
    fail("a warp operation at " + text(place) + " does not name the thread that calls it");
  Thread& thread = current->thread();
  thread.mask = mask;
  thread.operation = operation;
  thread.operand = operand;
  current->wait(State::at_warp_operation, place);
}

void copy_later(void* to, const void* from, std::size_t bytes) {
  current->thread().open_group.push_back({to, from, bytes});
}

void commit_copies() {
  Thread& thread = current->thread();
  thread.groups.push_back(std::move(thread.open_group));
  thread.open_group.clear();
}

void wait_for_copies(int groups_left) {
  auto& groups = current->thread().groups;
  for (; groups.size() > static_cast<std::size_t>(groups_left); groups.pop_front())
    for (const Copy& copy : groups.front()) {
      if (copy.from)
        std::memcpy(copy.to, copy.from, copy.bytes);
      else
        std::memset(copy.to, 0, copy.bytes);
    }
}

}  // namespace tilefold::cuda::emulation
