#pragma once
// Threads. Work is cut by the shape of the problem alone, and every output element is computed by one task in one
// order, so the bits do not depend on the number of threads.
#include <omp.h>

#include "core/tensor.h"

namespace xlstm {

inline int max_threads() { return omp_get_max_threads(); }
inline int thread_index() { return omp_get_thread_num(); }
int usable_cores();             // affinity mask and cgroup quota respected
void set_threads(int threads);  // 0 = usable_cores()
constexpr i64 kMostThreads = 1024;

// body(task) for task in [0, tasks), in any order on any thread. The body must not throw.
template <class F>
void parallel_for(i64 tasks, F&& body) {
  if (tasks <= 1) {
    if (tasks == 1) body(i64{0});
    return;
  }
#pragma omp parallel for schedule(dynamic, 1)
  for (i64 task = 0; task < tasks; ++task) body(task);
}

// body(begin, end) over fixed blocks of `block` items.
template <class F>
void parallel_blocks(i64 items, i64 block, F&& body) {
  const i64 blocks = (items + block - 1) / block;
  parallel_for(blocks, [&](i64 b) { body(b * block, b * block + block < items ? b * block + block : items); });
}

}  // namespace xlstm
