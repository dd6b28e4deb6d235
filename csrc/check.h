// Checks of arguments. Nothing else throws. A message names op, argument, expected and got.
#pragma once
#include <cstdint>
#include <limits>
#include <sstream>
#include <stdexcept>

namespace tilefold {

struct WrongType : std::runtime_error {
  using std::runtime_error::runtime_error;
};

template <class Error = std::invalid_argument, class... Parts>
void check(bool holds, const Parts&... parts) {
  if (holds) return;
  std::ostringstream message;
  (message << ... << parts);
  throw Error(message.str());
}

template <class... Parts>
void check_type(bool holds, const Parts&... parts) {
  check<WrongType>(holds, parts...);
}

// The product of two sizes, or the largest number where it would overflow.
inline int64_t saturated_product(int64_t a, int64_t b) {
  int64_t product;
  return __builtin_mul_overflow(a, b, &product) ? std::numeric_limits<int64_t>::max() : product;
}

}  // namespace tilefold
