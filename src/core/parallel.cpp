#include "core/parallel.h"

#include <sched.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <string>

namespace xlstm {

namespace {

// cgroup v2: "max 100000" or "150000 100000" (quota and period in microseconds)
double cgroup_cores() {
  std::ifstream in("/sys/fs/cgroup/cpu.max");
  double quota = 0, period = 0;
  if (!(in >> quota >> period) || period <= 0) return 1e9;
  return quota / period;
}

}  // namespace

int usable_cores() {
  cpu_set_t set;
  int cores = 1;
  if (sched_getaffinity(0, sizeof set, &set) == 0) cores = CPU_COUNT(&set);
  return std::max(1, std::min(cores, static_cast<int>(std::ceil(cgroup_cores()))));
}

void set_threads(int threads) { omp_set_num_threads(threads > 0 ? threads : usable_cores()); }

}  // namespace xlstm
