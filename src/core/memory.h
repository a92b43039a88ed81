#pragma once
// Owning bytes, and what this process uses.
#include <cstddef>
#include <string>
#include <utility>

#include "core/gpu.h"

namespace xlstm {

// Zeroed pages straight from the kernel, huge where it grants them; or memory of a device. Throws UserError when there
// is too little.
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(i64 bytes, Gpu* gpu = nullptr);
  ~Buffer();
  Buffer(Buffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)),
        bytes_(std::exchange(other.bytes_, 0)),
        gpu_(other.gpu_),
        pinned_for_(std::exchange(other.pinned_for_, nullptr)) {}
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    std::swap(gpu_, other.gpu_);
    std::swap(pinned_for_, other.pinned_for_);
    return *this;
  }

  // Host memory alone: locked for `gpu`, which outlives the buffer; false where that is refused.
  bool pin(Gpu& gpu);

  std::byte* data() const { return data_; }
  i64 bytes() const { return bytes_; }
  Device device() const { return gpu_ ? Device::cuda : Device::cpu; }

 private:
  std::byte* data_ = nullptr;
  i64 bytes_ = 0;
  Gpu* gpu_ = nullptr;  // outlives the buffer
  Gpu* pinned_for_ = nullptr;
};

i64 peak_resident_bytes();     // of this process, so far
i64 available_memory_bytes();  // what the system could still give, cgroup limits included

// What the limit of a cgroup (v2; its folder) leaves, the cache of files not counted as used; without one, the largest
// i64.
i64 cgroup_available_bytes(const std::string& cgroup);

}  // namespace xlstm
