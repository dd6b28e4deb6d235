// How a long op stays answerable: every thread beats now and then; the calling thread asks the
// outside world (signals, progress) a few times a second, and a yes to "stop?" reaches all.
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
  // `ask(done)` returns true to stop; it is only called on the thread that made the pulse.
  explicit Pulse(std::function<bool(double done)> ask)
      : ask_(std::move(ask)), caller_(std::this_thread::get_id()) {}

  // Adds work done, as a share of the whole. False: stop, the op is cancelled.
  bool beat(double share) {
    double done = done_.load(std::memory_order_relaxed);
    while (!done_.compare_exchange_weak(done, done + share, std::memory_order_relaxed)) {
    }
    if (std::this_thread::get_id() == caller_) ask();
    return !stopped();
  }

  void ask() {
    const auto now = std::chrono::steady_clock::now();
    if (stopped() || now - last_ < std::chrono::milliseconds(50)) return;
    last_ = now;
    // Work that had to be done again counts twice.
    if (ask_(std::min(1.0, done_.load(std::memory_order_relaxed)))) stopped_.store(true);
  }

  bool stopped() const { return stopped_.load(std::memory_order_relaxed); }

 private:
  std::function<bool(double)> ask_;
  std::thread::id caller_;
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
  std::atomic<double> done_{0};
  std::atomic<bool> stopped_{false};
};

}  // namespace tilefold
