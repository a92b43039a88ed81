// A pool of workers. The caller of a loop opens a gate, draws tasks like everybody else, closes the gate when none are
// left, and waits for those within. A worker that comes late finds the gate closed: nobody ever waits for a thread that
// the system has not run, which is what makes two programs on the same cores slow.
#include "core/parallel.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <fstream>
#include <mutex>
#include <string>
#include <system_error>
#include <thread>

namespace xlstm {

namespace {

// cgroup v2: "max 100000" or "150000 100000" (quota and period in microseconds)
double cgroup_cores() {
  std::ifstream in("/sys/fs/cgroup/cpu.max");
  double quota = 0, period = 0;
  if (!(in >> quota >> period) || period <= 0) return 1e9;
  return quota / period;
}

thread_local int index_here = 0;
thread_local bool within_task = false;

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Between the loops of a step lie some microseconds, less than it takes to sleep and to be woken: a short wait spins,
// a longer one leaves the core to others.
template <class Done>
void wait_until(const std::atomic<std::uint32_t>& value, Done&& done) {
  constexpr auto kSpin = std::chrono::microseconds(30);
  const auto end = std::chrono::steady_clock::now() + kSpin;
  do {
    for (int i = 0; i < 16; ++i) {
      if (done(value.load(std::memory_order_acquire))) return;
      relax();
    }
  } while (std::chrono::steady_clock::now() < end);
  for (std::uint32_t seen; !done(seen = value.load());) value.wait(seen);
}

class Pool {
 public:
  Pool() = default;
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  // False when another thread's loop is under way.
  bool run(i64 tasks, void (*task)(void*, i64), void* body, int threads) {
    const std::unique_lock turn(turn_, std::try_to_lock);
    if (!turn) return false;
    start_workers(threads - 1);
    task_ = task;
    body_ = body;
    tasks_ = tasks;
    threads_ = threads;
    next_.store(0, std::memory_order_relaxed);
    gate_.store(0);
    loops_.fetch_add(1);
    loops_.notify_all();
    work();
    gate_.fetch_or(kClosed);
    wait_until(gate_, [](std::uint32_t gate) { return gate == kClosed; });
    return true;
  }

 private:
  static constexpr std::uint32_t kClosed = 1u << 31;  // in gate_; the rest counts the workers within

  void work() {
    within_task = true;
    for (i64 i; (i = next_.fetch_add(1, std::memory_order_relaxed)) < tasks_;) task_(body_, i);
    within_task = false;
  }

  void attend() {
    std::uint32_t gate = gate_.load();
    do
      if (gate & kClosed) return;
    while (!gate_.compare_exchange_weak(gate, gate + 1));
    if (index_here < threads_) work();
    if (gate_.fetch_sub(1) - 1 == kClosed) gate_.notify_one();
  }

  void serve(int index) {
    index_here = index;
    for (std::uint32_t seen = 0;;) {
      wait_until(loops_, [&](std::uint32_t loops) { return loops != seen; });
      seen = loops_.load();
      attend();
    }
  }

  // Signals are the main thread's, but for those that a fault raises where it happens. Where the system gives no more
  // threads, the loops go on with those that are there.
  void start_workers(int wanted) {
    if (started_ >= wanted) return;
    sigset_t all, before;
    sigfillset(&all);
    for (const int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP}) sigdelset(&all, fault);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    try {
      for (; started_ < wanted; ++started_) std::thread([this, index = started_ + 1] { serve(index); }).detach();
    } catch (const std::system_error&) {
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }

  std::mutex turn_;
  int started_ = 0;
  void (*task_)(void*, i64) = nullptr;  // this and the next three: written while the gate is closed and nobody within
  void* body_ = nullptr;
  i64 tasks_ = 0;
  int threads_ = 0;
  alignas(64) std::atomic<std::uint32_t> loops_ = 0;  // begun so far
  alignas(64) std::atomic<std::uint32_t> gate_ = kClosed;
  alignas(64) std::atomic<i64> next_ = 0;
};

// Never destroyed: workers sleep in it while the process ends. A forked child has none of them and starts its own.
std::atomic<Pool*> pool_here = nullptr;

Pool& pool() {
  static const bool made = [] {
    pool_here = new Pool;
    pthread_atfork(nullptr, nullptr, [] { pool_here = new Pool; });
    return true;
  }();
  static_cast<void>(made);
  return *pool_here;
}

std::atomic<int>& threads_now() {
  static std::atomic<int> threads = usable_cores();
  return threads;
}

}  // namespace

int usable_cores() {
  cpu_set_t set;
  int cores = 1;
  if (sched_getaffinity(0, sizeof set, &set) == 0) cores = CPU_COUNT(&set);
  return std::max(1, std::min(cores, static_cast<int>(std::ceil(cgroup_cores()))));
}

void set_threads(int threads) {
  XL_CHECK(!within_task, "the number of threads cannot change within a task");
  threads_now() = threads > 0 ? threads : usable_cores();
}

int max_threads() { return threads_now().load(std::memory_order_relaxed); }

int thread_index() { return index_here; }

void parallel_detail::run(i64 tasks, void (*task)(void*, i64), void* body) noexcept {
  const int threads = max_threads();
  if (within_task || threads == 1 || !pool().run(tasks, task, body, threads))
    for (i64 i = 0; i < tasks; ++i) task(body, i);
}

}  // namespace xlstm
