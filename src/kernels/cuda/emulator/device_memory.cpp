#include "kernels/cuda/emulator/device_memory.h"

#include <sys/mman.h>

#include <map>
#include <mutex>

#include "core/check.h"

namespace xlstm::emulator {

namespace {

struct Pages {
  std::mutex mutex;
  std::map<std::byte*, std::size_t> all;
  int open = 0;

  void protect(int how) {
    for (const auto& [data, bytes] : all) XL_CHECK(mprotect(data, bytes, how) == 0, "mprotect");
  }
};
Pages& pages() {
  static Pages one;
  return one;
}

}  // namespace

DeviceMemory::DeviceMemory(std::size_t bytes) {
  constexpr std::size_t kPage = 4096;
  mapped_ = (bytes / kPage + 1) * kPage;
  const std::lock_guard lock(pages().mutex);
  const int how = pages().open > 0 ? PROT_READ | PROT_WRITE : PROT_NONE;
  void* const data = mmap(nullptr, mapped_, how, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) throw user_error("no memory for {} bytes of an emulated device", bytes);
  data_ = static_cast<std::byte*>(data);
  pages().all.emplace(data_, mapped_);
  range_ = std::make_unique<GlobalRange>(data_, bytes);
}

DeviceMemory::~DeviceMemory() {
  const std::lock_guard lock(pages().mutex);
  range_.reset();
  pages().all.erase(data_);
  munmap(data_, mapped_);
}

DeviceAccess::DeviceAccess() {
  const std::lock_guard lock(pages().mutex);
  if (++pages().open == 1) pages().protect(PROT_READ | PROT_WRITE);
}

DeviceAccess::~DeviceAccess() {
  const std::lock_guard lock(pages().mutex);
  if (--pages().open == 0) pages().protect(PROT_NONE);
}

}  // namespace xlstm::emulator
