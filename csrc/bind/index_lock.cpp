#include "bind/index_lock.h"

#include <chrono>

#include "bind/at_end.h"
#include "bind/deferred_signals.h"
#include "bind/gil.h"
#include "check.h"
#include "parallel.h"

namespace tilefold::bind {
namespace {

constexpr std::chrono::milliseconds poll_time{50};

py::object call(const py::function& function) {
  return outlive_interpreter([&] { return function(); });
}

}  // namespace

IndexLock::IndexLock() : state_(std::make_unique<State>()), process_(process_id()) {}

IndexLock::~IndexLock() {
  // A forked child has the lock without the threads that may hold or await it; destroying a
  // condition variable would wait for them.
  if (process_ != process_id()) static_cast<void>(state_.release());
}

template <class Ready, class Take>
void IndexLock::acquire(Ready ready, Take take) {
  State& state = *state_;
  const auto try_to = [&](auto wait) {
    std::unique_lock<std::mutex> lock(state.mutex);
    const bool taken = wait(lock);
    if (taken) take();
    return taken;
  };
  bool taken = try_to([&](auto&) { return ready(); });
  while (!taken) {
    without_gil([&](ReleasedGil&) {
      taken = try_to([&](auto& lock) { return state.changed.wait_for(lock, poll_time, ready); });
    });
    if (!taken && PyErr_CheckSignals() != 0) throw py::error_already_set();
  }
}

template <class Give>
void IndexLock::release(Give give) {
  {
    const std::lock_guard<std::mutex> lock(state_->mutex);
    give();
  }
  state_->changed.notify_all();
}

bool IndexLock::is_read_here() const {
  const std::lock_guard<std::mutex> lock(state_->mutex);
  return state_->readers.count(std::this_thread::get_id()) > 0;
}

py::object IndexLock::reading(const py::function& function) {
  State& state = *state_;
  const std::thread::id me = std::this_thread::get_id();
  acquire([&] { return !state.writer || state.readers.count(me); }, [&] { ++state.readers[me]; });
  const AtEnd end([&] {
    release([&] {
      if (--state.readers[me] == 0) state.readers.erase(me);
    });
  });
  return call(function);
}

py::object IndexLock::changing(const py::function& function) {
  State& state = *state_;
  const std::thread::id me = std::this_thread::get_id();
  const auto inside = [&] { return state.changing && state.changer == me; };
  acquire([&] { return !state.changing || inside(); },
          [&] {
            check<std::runtime_error>(!inside(), "a change must not begin within another one");
            state.changing = true;
            state.changer = me;
          });
  const AtEnd end([&] { release([&] { state.changing = false; }); });
  return call(function);
}

py::object IndexLock::writing(const py::function& function) {
  State& state = *state_;
  check<std::runtime_error>(state.changing, "writing is possible within a change only");
  const AtEnd end([&] { release([&] { state.writer = false; }); });
  acquire([&] { return true; }, [&] { state.writer = true; });
  acquire([&] { return state.readers.empty(); }, [] {});
  return call_with_signals_deferred(function);
}

}  // namespace tilefold::bind
