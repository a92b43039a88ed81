#pragma once
// Arena: a stack of bytes. With no memory behind it, it only measures: the same code runs once on measuring arenas,
// which yields every size exactly, and then on real ones of that size. `xlstm plan` is that first run.
#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "core/tensor.h"

namespace xlstm {

class Arena {
 public:
  static constexpr i64 kAlign = 256;

  static Arena measuring(std::string name, Device device = Device::cpu) {
    return Arena(std::move(name), nullptr, i64{1} << 62, device);
  }
  Arena(std::string name, std::byte* base, i64 capacity, Device device = Device::cpu)
      : name_(std::move(name)), base_(base), capacity_(capacity), device_(device) {}

  // 256-byte aligned. Throws with both names when the arena is full.
  Tensor alloc(std::string_view name, DType dtype, i64 rows, i64 cols) {
    const i64 begin = (used_ + kAlign - 1) / kAlign * kAlign;
    const i64 end = begin + rows * cols * size_of(dtype);
    if (measuring() && end > capacity_)
      throw user_error("{}: '{}' brings it to more than 2^62 bytes; a smaller model or batch is needed", name_, name);
    XL_CHECK(end <= capacity_, "arena '{}' is full: '{}' needs {} of {} bytes", name_, name, end, capacity_);
    used_ = end;
    peak_ = std::max(peak_, used_);
    return {base_ ? base_ + begin : nullptr, dtype, device_, rows, cols, cols};
  }

  i64 mark() const { return used_; }
  void rewind(i64 mark) { used_ = mark; }
  i64 peak() const { return peak_; }
  i64 capacity() const { return capacity_; }
  std::byte* base() const { return base_; }
  bool measuring() const { return base_ == nullptr; }
  const std::string& name() const { return name_; }
  Device device() const { return device_; }

 private:
  std::string name_;
  std::byte* base_;
  i64 capacity_, used_ = 0, peak_ = 0;
  Device device_;
};

// Everything allocated from the arena inside this scope is given back at its end.
class ScratchScope {
 public:
  explicit ScratchScope(Arena& arena) : arena_(arena), mark_(arena.mark()) {}
  ~ScratchScope() { arena_.rewind(mark_); }
  ScratchScope(const ScratchScope&) = delete;
  ScratchScope& operator=(const ScratchScope&) = delete;

 private:
  Arena& arena_;
  i64 mark_;
};

}  // namespace xlstm
