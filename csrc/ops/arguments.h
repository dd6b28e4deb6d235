// Checks of arguments that several ops have.
#pragma once
#include <cstdint>

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
