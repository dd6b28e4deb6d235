// AtEnd: runs a function where its scope ends, however it ends.
#pragma once

namespace tilefold::bind {

template <class Run>
class AtEnd {
 public:
  explicit AtEnd(Run run) : run_(run) {}
  ~AtEnd() { run_(); }
  AtEnd(const AtEnd&) = delete;
  AtEnd& operator=(const AtEnd&) = delete;

 private:
  Run run_;
};

}  // namespace tilefold::bind
