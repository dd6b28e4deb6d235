#include "bind/exit_gate.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <unordered_map>

#include "bind/at_end.h"
#include "bind/gil.h"
#include "parallel.h"

namespace tilefold::bind {
namespace {

constexpr std::chrono::milliseconds poll_time{50};

struct Gate {
  const int process = process_id();
  std::mutex mutex;  // held for moments only, never while its thread waits for the GIL
  std::condition_variable changed;
  std::unordered_map<std::thread::id, int> calls;  // depth of each calling thread
  bool closed = false;
  std::thread::id closer;

  bool is_closed_to(std::thread::id thread) const {
    return closed && thread != closer && calls.count(thread) == 0;
  }
  // Other threads than this one make no call.
  bool is_empty_but_for(std::thread::id thread) const {
    return calls.empty() || (calls.size() == 1 && calls.count(thread) == 1);
  }
};

std::atomic<Gate*> current_gate{nullptr};
thread_local std::thread::id represented;

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

std::thread::id acting_thread() {
  return represented == std::thread::id() ? std::this_thread::get_id() : represented;
}

StandIn::StandIn(std::thread::id thread) : before_(represented) { represented = thread; }
StandIn::~StandIn() { represented = before_; }

py::object before_exit(const py::function& function) {
  Gate& g = gate();
  const std::thread::id me = acting_thread();
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
    }
    g.changed.notify_all();
  });
  return outlive_interpreter([&] { return function(); });
}

void close_exit_gate() {
  Gate& g = gate();
  const std::thread::id me = acting_thread();
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
}

}  // namespace tilefold::bind
