// Calls the pool from many threads at once: jobs of every size, nested jobs, tasks that throw, and
// another number of threads in between. Prints how many tasks ran. Built with ThreadSanitizer.
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <thread>
#include <vector>

#include "parallel.h"

using tilefold::parallel_for;

namespace {

constexpr int callers = 12, rounds = 150;
std::atomic<int64_t> ran{0}, expected{0}, idles{0};

// Each task adds to its own place, without atomics: the pool must order it before the return.
void sum_of_places(int64_t n, int threads) {
  std::vector<int64_t> place(static_cast<std::size_t>(n));
  parallel_for(
      n, threads, [&](int64_t i) { place[static_cast<std::size_t>(i)] += i + 1; }, [] { ++idles; });
  int64_t total = 0;
  for (const int64_t value : place) total += value;
  if (total != n * (n + 1) / 2) std::abort();
  ran += n;
  expected += n;
}

void nested(int threads) {
  std::atomic<int64_t> inner{0};
  parallel_for(4, threads, [&](int64_t) { parallel_for(8, 3, [&](int64_t) { ++inner; }); });
  if (inner != 32) std::abort();
}

void throwing(int threads) {
  try {
    parallel_for(64, threads, [](int64_t i) {
      if (i % 16 == 7) throw std::runtime_error("a task that throws");
    });
    std::abort();
  } catch (const std::runtime_error&) {
  }
}

void call(int caller) {
  for (int round = 0; round < rounds; ++round) {
    const int threads = 1 + (caller + round) % 7;
    sum_of_places((round * 37 + caller) % 200, threads);
    if (round % 10 == 3) nested(threads);
    if (round % 10 == 7) throwing(threads);
    if (round % 25 == 11) tilefold::set_num_threads(1 + caller % 4);
    if (round % 50 == 20) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    if (tilefold::num_threads() < 1) std::abort();
  }
}

}  // namespace

int main() {
  std::vector<std::thread> threads;
  for (int caller = 0; caller < callers; ++caller) threads.emplace_back(call, caller);
  for (std::thread& thread : threads) thread.join();
  std::printf("%lld of %lld tasks\n", static_cast<long long>(ran),
              static_cast<long long>(expected));
  return 0;
}
