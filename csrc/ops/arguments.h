// Checks of arguments that several ops have.
#pragma once
#include <cstdint>

#include "check.h"
#include "parallel.h"

namespace tilefold::ops {

inline int threads_of(const char* op, int threads) {
  if (threads == 0) return num_threads();
  check(threads >= 1 && threads <= 1024, op, ": num_threads must be 1 to 1024, got ", threads);
  return threads;
}

// CSR offsets over `size` entries; `name` is the op and the argument.
inline void check_offsets(const char* name, const int64_t* offsets, int64_t n, int64_t size) {
  check(offsets[0] == 0, name, " offsets must begin with 0, got ", offsets[0]);
  for (int64_t i = 0; i < n; ++i)
    check(offsets[i] <= offsets[i + 1], name, " offsets must not decrease, but offsets[", i + 1,
          "] = ", offsets[i + 1], " is below ", offsets[i]);
  check(offsets[n] == size, name, " offsets must end with the number of ids, ", size, ", got ",
        offsets[n]);
}

}  // namespace tilefold::ops
