#pragma once
// Threads. Work is cut by the shape of the problem alone, and every output element is computed by one task in one
// order, so the bits do not depend on the number of threads.
#include <memory>
#include <type_traits>

#include "core/tensor.h"

namespace xlstm {

int usable_cores();             // affinity mask and cgroup quota respected
void set_threads(int threads);  // 0 = usable_cores(), as before the first call; not within a task
int max_threads();
int thread_index();  // of the thread that a task runs on, below max_threads(): no two tasks of one loop at once share
                     // it
constexpr i64 kMostThreads = 1024;

namespace parallel_detail {
void run(i64 tasks, void (*task)(void* body, i64 number), void* body) noexcept;
}

// body(task) for task in [0, tasks), in any order on any thread, the caller's among them. The body must not throw.
// Within a task, and while another thread's loop has the workers, the caller does all tasks itself.
template <class F>
void parallel_for(i64 tasks, F&& body) {
  if (tasks <= 1) {
    if (tasks == 1) body(i64{0});
    return;
  }
  using Body = std::remove_reference_t<F>;
  const auto call = [](void* f, i64 task) { (*static_cast<Body*>(f))(task); };
  parallel_detail::run(tasks, call, const_cast<void*>(static_cast<const void*>(std::addressof(body))));
}

// body(begin, end) over fixed blocks of `block` items.
template <class F>
void parallel_blocks(i64 items, i64 block, F&& body) {
  const i64 blocks = (items + block - 1) / block;
  parallel_for(blocks, [&](i64 b) { body(b * block, b * block + block < items ? b * block + block : items); });
}

}  // namespace xlstm
