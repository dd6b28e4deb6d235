// Copies of a thread that are under way: they happen when the thread waits for their group.
#pragma once
#include <cstddef>
#include <cstring>
#include <vector>

namespace tilefold::cuda::emulation {

class BackgroundCopies {
 public:
  void clear() {
    copies_.clear();
    group_ = 0;
  }

  // Zeros without an address to copy from.
  void add(void* to, const void* from, std::size_t bytes) {
    copies_.push_back({to, from, bytes, group_});
  }

  void commit() { ++group_; }

  void wait(int groups_left) {
    std::size_t done = 0;
    for (; done < copies_.size() && copies_[done].group < group_ - groups_left; ++done) {
      const Copy& copy = copies_[done];
      if (copy.from)
        std::memcpy(copy.to, copy.from, copy.bytes);
      else
        std::memset(copy.to, 0, copy.bytes);
    }
    copies_.erase(copies_.begin(), copies_.begin() + static_cast<std::ptrdiff_t>(done));
  }

 private:
  struct Copy {
    void* to;
    const void* from;
    std::size_t bytes;
    int group;
  };
  std::vector<Copy> copies_;
  int group_ = 0;  // the one that is open
};

}  // namespace tilefold::cuda::emulation
