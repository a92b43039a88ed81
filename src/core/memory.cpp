#include "core/memory.h"

#include <sys/mman.h>
#include <sys/resource.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <limits>
#include <string>

#include "core/text.h"

namespace xlstm {

Buffer::Buffer(i64 bytes, Gpu* gpu) : bytes_(bytes), gpu_(gpu) {
  if (bytes == 0) return;
  if (gpu) {
    data_ = gpu->allocate(bytes);
    return;
  }
  void* p = mmap(nullptr, static_cast<std::size_t>(bytes), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED)
    throw user_error("cannot get {} of memory: {} ('xlstm plan' shows where it would go)", human_bytes(bytes),
                     std::strerror(errno));
  madvise(p, static_cast<std::size_t>(bytes), MADV_HUGEPAGE);
  data_ = static_cast<std::byte*>(p);
}

bool Buffer::pin(Gpu& gpu) {
  XL_CHECK(!gpu_ && !pinned_for_, "only host memory can be pinned, and only once");
  if (data_ && gpu.pin(data_, bytes_)) pinned_for_ = &gpu;
  return pinned_for_ != nullptr;
}

Buffer::~Buffer() {
  if (pinned_for_) pinned_for_->unpin(data_);
  if (data_ && gpu_)
    gpu_->release(data_);
  else if (data_)
    munmap(data_, static_cast<std::size_t>(bytes_));
}

i64 peak_resident_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return i64{usage.ru_maxrss} * 1024;
}

namespace {

// What is counted as used but would be given back at once: the cache of files, such as shards and checkpoints.
i64 cached_file_bytes(const std::string& cgroup) {
  std::ifstream stat(cgroup + "/memory.stat");
  i64 cached = 0, value = 0;
  for (std::string key; stat >> key >> value;)
    if (key == "active_file" || key == "inactive_file") cached += value;
  return cached;
}

}  // namespace

i64 cgroup_available_bytes(const std::string& cgroup) {
  std::ifstream limit_file(cgroup + "/memory.max"), used_file(cgroup + "/memory.current");
  i64 limit = 0, used = 0;
  if (!(limit_file >> limit) || !(used_file >> used)) return std::numeric_limits<i64>::max();  // "max", or no cgroup v2
  return std::max<i64>(0, limit - used + cached_file_bytes(cgroup));
}

i64 available_memory_bytes() {
  std::ifstream in("/proc/meminfo");
  for (std::string key, unit; in >> key;) {
    i64 kib = 0;
    in >> kib;
    std::getline(in, unit);
    if (key == "MemAvailable:") return std::min(kib * 1024, cgroup_available_bytes("/sys/fs/cgroup"));
  }
  return cgroup_available_bytes("/sys/fs/cgroup");
}

}  // namespace xlstm
