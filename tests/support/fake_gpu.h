#pragma once
// A device that computes nothing, for tests of what the host does with one.
#include "core/gpu.h"

namespace xlstm::test {

class FakeGpu : public Gpu {
 public:
  const GpuInfo& info() const override { return info_; }
  i64 available_bytes() const override { return 0; }
  std::byte* allocate(i64) override { throw GpuError("no memory here"); }
  void release(std::byte*) noexcept override {}
  void copy_in(std::byte*, const void*, i64) override {}
  void copy_out(void*, const std::byte*, i64) override {}
  void synchronize() override {}
  void* stream() const override { return nullptr; }
  double seconds_of(const std::function<void()>& work) override { return work(), 0; }
  void begin_range(const char*) override {}
  void end_range() override {}
  void repeat(const std::function<void()>& work) override { work(); }

 private:
  GpuInfo info_;
};

}  // namespace xlstm::test
