// The library's threads: one pool of workers, created when first needed, that sleep between ops. It
// does not use OpenMP, which could clash with the runtimes of torch or a BLAS. A forked child has
// its own pool.
#pragma once
#include <cfenv>
#include <cstdint>
#include <functional>

namespace tilefold {

// The number of this process, by which a forked child knows what it inherited.
int process_id();

// Default number of threads of a call: that of set_num_threads, or else of TILEFOLD_NUM_THREADS, or
// else the number of CPUs that this process may use.
int num_threads();
void set_num_threads(int n);

// Sets the default floating-point environment during its lifetime, because a caller's flush-to-zero
// mode or rounding direction would change bits.
class DefaultFloatEnvironment {
 public:
  DefaultFloatEnvironment() {
    std::fegetenv(&saved_);
    std::fesetenv(FE_DFL_ENV);
  }
  ~DefaultFloatEnvironment() { std::fesetenv(&saved_); }
  DefaultFloatEnvironment(const DefaultFloatEnvironment&) = delete;
  DefaultFloatEnvironment& operator=(const DefaultFloatEnvironment&) = delete;

 private:
  std::fenv_t saved_;
};

// Runs task(i) for every i in [0, n) on up to `threads` threads, the caller among them; on fewer
// where the system gives no more. `idle` is
// called on the calling thread every few milliseconds while it waits for the others. Rethrows the
// first exception of a task. Tasks run in the default floating-point environment.
void parallel_for(int64_t n, int threads, const std::function<void(int64_t)>& task,
                  const std::function<void()>& idle = {});

}  // namespace tilefold
