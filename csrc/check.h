// Checks of arguments. Nothing else throws. A message names op, argument, expected and got.
#pragma once
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

}  // namespace tilefold
