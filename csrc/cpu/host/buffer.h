// Uninitialised memory for tiles, aligned to cache lines.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>

namespace tilefold::cpu {

template <class T>
class Buffer {
 public:
  explicit Buffer(int64_t size = 0)
      : memory_(new T[static_cast<std::size_t>(size) + 64 / sizeof(T)]) {
    const auto address = reinterpret_cast<uintptr_t>(memory_.get());
    data_ = memory_.get() + (64 - address % 64) % 64 / sizeof(T);
  }
  T* data() { return data_; }

 private:
  std::unique_ptr<T[]> memory_;
  T* data_;
};

}  // namespace tilefold::cpu
