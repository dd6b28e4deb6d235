// Checks of arguments that several ops have.
#pragma once
#include <cstdint>
#include <vector>

#include "check.h"
#include "kernels.h"
#include "parallel.h"
#include "view.h"

namespace tilefold::ops {

inline int thread_count(const char* op, int num_threads) {
  if (num_threads == 0) return tilefold::num_threads();
  check(num_threads >= 1 && num_threads <= 1024, op, ": num_threads must be 1 to 1024, got ",
        num_threads);
  return num_threads;
}

// The op's implementation on the device of its arrays, of which `array` is one.
template <class Args>
Op<Args> find_op(Op<Args> Implementation::* column, const char* op, const View& array) {
  return tilefold::find_op(column, op, array.name(), array.device());
}

// Integers that kernels use as places in other arrays. On the host they are copied before they are
// checked, so that nobody can change them between the check and the use.
class Places {
 public:
  Places() = default;
  // No places if the array is absent.
  Places(const View& array, int64_t size) {
    if (!array.given()) return;
    if (host_readable(array.device())) copied_ = array.copy<int64_t>(size);
    values_ = host_readable(array.device()) ? copied_.data() : array.read<int64_t>(size);
    size_ = size;
    given_ = true;
  }
  Places(Places&&) = default;
  Places& operator=(Places&&) = default;

  bool given() const { return given_; }
  int64_t size() const { return size_; }
  const int64_t* data() const { return values_; }
  int64_t operator[](int64_t i) const { return values_[i]; }

 private:
  std::vector<int64_t> copied_;  // moving it does not move its memory
  const int64_t* values_ = nullptr;
  int64_t size_ = 0;
  bool given_ = false;
};

// CSR offsets over `size` entries, in host memory; `name` is the op and the argument.
inline void check_offsets(const char* name, const int64_t* offsets, int64_t n, int64_t size) {
  check(offsets[0] == 0, name, " offsets must begin with 0, got ", offsets[0]);
  for (int64_t i = 0; i < n; ++i)
    check(offsets[i] <= offsets[i + 1], name, " offsets must not decrease, but offsets[", i + 1,
          "] = ", offsets[i + 1], " is below ", offsets[i]);
  check(offsets[n] == size, name, " offsets must end with the number of ids, ", size, ", got ",
        offsets[n]);
}

}  // namespace tilefold::ops
