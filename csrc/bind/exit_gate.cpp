#include "bind/exit_gate.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <utility>

#include "bind/at_end.h"
#include "bind/gil.h"
#include "parallel.h"

namespace tilefold::bind {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds poll_time{50};
// A thread whose call ended so lately is probably about to begin another one, ...
constexpr std::chrono::seconds recent{1};
// ... and gets so long to come to the gate, and sleep there. Torch, too, aborts the process where such
// a thread frees a tensor while the interpreter ends.
constexpr std::chrono::milliseconds grace{100};

struct Gate {
  const int process = process_id();
  std::mutex mutex;  // held for moments only, never while its thread waits for the GIL
  std::condition_variable changed;
  std::unordered_map<std::thread::id, int> calls;  // depth of each calling thread
  bool closed = false;
  std::thread::id closer;
  // The end of the last call of each of two threads, of which one may be the closer.
  struct {
    std::thread::id thread;
    Clock::time_point end;
  } last[2];

  bool is_closed_to(std::thread::id thread) const {
    return closed && thread != closer && calls.count(thread) == 0;
  }
  void note_end(std::thread::id thread) {
    if (last[0].thread != thread) std::swap(last[0], last[1]);
    last[0] = {thread, Clock::now()};
  }
  bool was_left_lately_but_for(std::thread::id thread) const {
    for (const auto& l : last)
      if (l.thread != thread && Clock::now() - l.end < recent) return true;
    return false;
  }
  // Other threads than this one make no call.
  bool is_empty_but_for(std::thread::id thread) const {
    return calls.empty() || (calls.size() == 1 && calls.count(thread) == 1);
  }
};

std::atomic<Gate*> current_gate{nullptr};

// Never destroyed: threads sleep at it until the process has ended. A forked child has none of the
// threads that the gate of its parent counts, and gets its own.
Gate& gate() {
  Gate* current = current_gate.load();
  if (current && current->process == process_id()) return *current;
  Gate* const fresh = new Gate;
  if (current_gate.compare_exchange_strong(current, fresh)) return *fresh;
  delete fresh;
  return *current;
}

}  // namespace

py::object before_exit(const py::function& function) {
  Gate& g = gate();
  const std::thread::id me = std::this_thread::get_id();
  bool closed;
  {
    const std::lock_guard<std::mutex> lock(g.mutex);
    closed = g.is_closed_to(me);
    if (!closed) ++g.calls[me];
  }
  if (closed) without_gil([](ReleasedGil&) { sleep_until_exit(); });
  const AtEnd end([&] {
    {
      const std::lock_guard<std::mutex> lock(g.mutex);
      if (--g.calls[me] == 0) g.calls.erase(me);
      g.note_end(me);
    }
    g.changed.notify_all();
  });
  return outlive_interpreter([&] { return function(); });
}

void close_exit_gate() {
  Gate& g = gate();
  const std::thread::id me = std::this_thread::get_id();
  bool empty = false;
  while (!empty) {
    without_gil([&](ReleasedGil&) {
      std::unique_lock<std::mutex> lock(g.mutex);
      g.closed = true;
      g.closer = me;
      empty = g.changed.wait_for(lock, poll_time, [&] { return g.is_empty_but_for(me); });
    });
    if (!empty && PyErr_CheckSignals() != 0) throw py::error_already_set();
  }
  without_gil([&](ReleasedGil&) {
    bool lately;
    {
      const std::lock_guard<std::mutex> lock(g.mutex);
      lately = g.was_left_lately_but_for(me);
    }
    if (lately) std::this_thread::sleep_for(grace);
  });
}

}  // namespace tilefold::bind
