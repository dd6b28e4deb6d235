// Asks for rows of a matrix that are read soon, from L3 or memory into L2.
#pragma once
#include <cstdint>

namespace tilefold::cpu {

inline void prefetch_rows(const void* first, int64_t rows, int64_t row_bytes,
                          int64_t stride_bytes) {
  constexpr int64_t cache_line = 64;
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t at = 0; at < row_bytes; at += cache_line)
      __builtin_prefetch(static_cast<const char*>(first) + r * stride_bytes + at, 0, 2);
}

}  // namespace tilefold::cpu
