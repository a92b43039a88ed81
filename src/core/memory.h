#pragma once
// Owning bytes, and what this process uses.
#include <cstddef>
#include <string>
#include <utility>

#include "core/tensor.h"

namespace xlstm {

// Zeroed pages straight from the kernel, huge where it grants them. Throws UserError when the system has too little.
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(i64 bytes);
  ~Buffer();
  Buffer(Buffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }

  std::byte* data() const { return data_; }
  i64 bytes() const { return bytes_; }

 private:
  std::byte* data_ = nullptr;
  i64 bytes_ = 0;
};

i64 peak_resident_bytes();     // of this process, so far
i64 available_memory_bytes();  // what the system could still give, cgroup limits included

// What the limit of a cgroup (v2; its folder) leaves, the cache of files not counted as used; without one, the largest
// i64.
i64 cgroup_available_bytes(const std::string& cgroup);

}  // namespace xlstm
