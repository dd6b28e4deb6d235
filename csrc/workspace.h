// Memory of the caller for an op's own use, which is free again once the work is done that the op
// queues.
#pragma once
#include <cstddef>

namespace tilefold {

class Workspace {
 public:
  virtual ~Workspace() = default;
  virtual void* take(std::size_t bytes) = 0;
};

}  // namespace tilefold
