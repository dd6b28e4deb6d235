// A job is a counter from which threads take task numbers. Workers sleep on a condition variable,
// but only after spinning for a short time: an op may start a dozen short jobs in a row, searches
// of one query follow each other, and waking a thread takes tens of microseconds, or milliseconds in
// a virtual machine. Measured on two cores of a Zen 5, one query on 20,000 documents: 105 us a call
// instead of 135 in a row and 30 us apart, for at most 80 us of a core after the last of them.
#include "parallel.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <deque>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "check.h"

#ifdef __linux__
#include <sched.h>
#endif
#ifndef _WIN32
#include <pthread.h>
#include <unistd.h>
#endif

namespace tilefold {
namespace {

constexpr int max_threads = 1024;

constexpr std::chrono::microseconds spin_time{80};

template <class Done>
void spin_until(Done done) {
  const auto end = std::chrono::steady_clock::now() + spin_time;
  while (!done() && std::chrono::steady_clock::now() < end) std::this_thread::yield();
}

#ifdef __linux__
int current_cpu() { return sched_getcpu(); }

// Moves this thread away from a CPU. After a rest, a woken thread may run on the CPU of the thread
// that woke it, although another is idle, until the scheduler balances them. In a virtual machine of
// two CPUs (Linux 6.18) that took about 10 ms: a contrastive loss of 1,024 after 0.1 s took 23 ms,
// and 14 to 17 with this. Searches below a millisecond gain nothing.
void leave_cpu(int cpu) {
  cpu_set_t own, others;
  if (cpu < 0 || sched_getcpu() != cpu || sched_getaffinity(0, sizeof own, &own) != 0) return;
  others = own;
  CPU_CLR(cpu, &others);
  if (CPU_COUNT(&others) == 0) return;
  sched_setaffinity(0, sizeof others, &others);
  sched_setaffinity(0, sizeof own, &own);
}
#else
int current_cpu() { return -1; }
void leave_cpu(int) {}
#endif

struct Job {
  int64_t n;
  const std::function<void(int64_t)>* task;
  int cpu = current_cpu();  // of the caller, when the job began
  std::atomic<int64_t> next{0};
  int helpers_wanted = 0;              // guarded by Pool::mutex
  std::atomic<int> helpers_active{0};  // changed under Pool::mutex
  std::exception_ptr error;
  std::mutex error_mutex;

  void work() {
    DefaultFloatEnvironment environment;
    for (int64_t i; (i = next.fetch_add(1)) < n;) {
      try {
        (*task)(i);
      } catch (...) {
        std::lock_guard<std::mutex> lock(error_mutex);
        if (!error) error = std::current_exception();
        next = n;
      }
    }
  }
};

struct Pool {
  std::mutex mutex;
  std::condition_variable wake;
  std::condition_variable finished;
  std::deque<Job*> jobs;
  std::atomic<int> waiting{0};  // jobs, as seen without the mutex
  int workers = 0;

  void serve() {
    std::unique_lock<std::mutex> lock(mutex);
    for (;;) {
      lock.unlock();
      spin_until([&] { return waiting.load(std::memory_order_relaxed) > 0; });
      lock.lock();
      wake.wait(lock, [&] { return !jobs.empty(); });
      Job* job = jobs.front();
      ++job->helpers_active;
      if (--job->helpers_wanted == 0) {
        jobs.pop_front();
        --waiting;
      }
      lock.unlock();
      leave_cpu(job->cpu);
      job->work();
      lock.lock();
      if (--job->helpers_active == 0) finished.notify_all();
    }
  }

  // Returns how many of the wanted workers there are: all, or as many as the system gives.
  int start(int wanted) {
    try {
      for (; workers < wanted; ++workers) std::thread([this] { serve(); }).detach();
    } catch (const std::system_error&) {
    }
    return std::min(wanted, workers);
  }

  void run(Job& job, int helpers, const std::function<void()>& idle) {
    {
      std::lock_guard<std::mutex> lock(mutex);
      helpers = start(helpers);
      if (helpers > 0) {
        job.helpers_wanted = helpers;
        jobs.push_back(&job);
        ++waiting;
      }
    }
    for (int i = 0; i < helpers; ++i) wake.notify_one();
    job.work();
    std::unique_lock<std::mutex> lock(mutex);
    for (auto at = jobs.begin(); at != jobs.end(); ++at) {
      if (*at == &job) {
        jobs.erase(at);
        --waiting;
        break;
      }
    }
    lock.unlock();
    spin_until([&] { return job.helpers_active.load() == 0; });
    lock.lock();
    while (!finished.wait_for(lock, std::chrono::milliseconds(20),
                              [&] { return job.helpers_active == 0; })) {
      if (!idle) continue;
      lock.unlock();
      idle();
      lock.lock();
    }
  }
};

std::atomic<Pool*> shared_pool{nullptr};
std::atomic<int> chosen_threads{0};

// Never destroyed: workers sleep in it until the process ends.
Pool& pool() {
  Pool* current = shared_pool.load();
  if (current) return *current;
  Pool* fresh = new Pool;
  if (shared_pool.compare_exchange_strong(current, fresh)) {
#ifndef _WIN32
    // Threads do not survive a fork, and the mutex may be held by one: the child forgets the pool.
    static std::once_flag registered;
    std::call_once(registered,
                   [] { pthread_atfork(nullptr, nullptr, [] { shared_pool.store(nullptr); }); });
#endif
    return *fresh;
  }
  delete fresh;
  return *current;
}

int available_cpus() {
#ifdef __linux__
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0) return CPU_COUNT(&set);
#endif
  const int n = static_cast<int>(std::thread::hardware_concurrency());
  return n > 0 ? n : 1;
}

}  // namespace

int process_id() {
#ifdef _WIN32
  return 0;
#else
  return static_cast<int>(getpid());
#endif
}

int num_threads() {
  if (const int chosen = chosen_threads.load()) return chosen;
  if (const char* text = std::getenv("TILEFOLD_NUM_THREADS"); text && *text) {
    char* end = nullptr;
    const long n = std::strtol(text, &end, 10);
    check(*end == 0 && n >= 1 && n <= max_threads, "TILEFOLD_NUM_THREADS: expected 1 to ",
          max_threads, ", got '", text, "'");
    return static_cast<int>(n);
  }
  return available_cpus();
}

void set_num_threads(int n) {
  check(n >= 1 && n <= max_threads, "set_num_threads: n must be 1 to ", max_threads, ", got ", n);
  chosen_threads = n;
}

void parallel_for(int64_t n, int threads, const std::function<void(int64_t)>& task,
                  const std::function<void()>& idle) {
  Job job;
  job.n = n;
  job.task = &task;
  const int helpers = static_cast<int>(n < threads ? n : threads) - 1;
  if (helpers > 0)
    pool().run(job, helpers, idle);
  else
    job.work();
  if (job.error) std::rethrow_exception(job.error);
}

}  // namespace tilefold
