// Work of a thread that happens later, in the order in which it was added.
#pragma once
#include <cstddef>
#include <functional>
#include <utility>
#include <vector>

namespace tilefold::cuda::emulation {

class DeferredWork {
 public:
  void clear() {
    actions_.clear();
    group_ = 0;
  }
  void add(std::function<void()> action) { actions_.push_back({std::move(action), group_}); }
  void commit() { ++group_; }
  // Does all but the last committed groups.
  void wait(int groups_left) {
    std::size_t done = 0;
    for (; done < actions_.size() && actions_[done].group < group_ - groups_left; ++done)
      actions_[done].action();
    actions_.erase(actions_.begin(), actions_.begin() + static_cast<std::ptrdiff_t>(done));
  }

 private:
  struct Action {
    std::function<void()> action;
    int group;
  };
  std::vector<Action> actions_;
  int group_ = 0;  // the one that is open
};

}  // namespace tilefold::cuda::emulation
