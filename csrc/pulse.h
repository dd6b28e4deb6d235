// Interruption and progress of a long op. Every thread calls beat() now and then; the calling
// thread polls the caller (signals, progress) a few times a second, and a request to stop reaches
// all threads.
#pragma once
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <thread>

namespace tilefold {

class Pulse {
 public:
  // `should_stop(done)` is called only on the thread that constructed the pulse.
  explicit Pulse(std::function<bool(double done)> should_stop)
      : should_stop_(std::move(should_stop)), caller_(std::this_thread::get_id()) {}

  // Adds work done, as a share of the whole. Returns false if the op is cancelled.
  bool beat(double share) {
    double done = done_.load(std::memory_order_relaxed);
    while (!done_.compare_exchange_weak(done, done + share, std::memory_order_relaxed)) {
    }
    if (std::this_thread::get_id() == caller_) poll();
    return !stopped();
  }

  void poll() {
    const auto now = std::chrono::steady_clock::now();
    if (stopped() || now - last_ < std::chrono::milliseconds(50)) return;
    last_ = now;
    // Work that had to be repeated counts twice.
    if (should_stop_(std::min(1.0, done_.load(std::memory_order_relaxed)))) stopped_.store(true);
  }

  bool stopped() const { return stopped_.load(std::memory_order_relaxed); }

 private:
  std::function<bool(double)> should_stop_;
  std::thread::id caller_;
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
  std::atomic<double> done_{0};
  std::atomic<bool> stopped_{false};
};

}  // namespace tilefold
