#include "kernels/cuda/emulator/gpu.h"

#include <cstdlib>
#include <cstring>
#include <map>

#include "core/profile.h"
#include "kernels/cuda/emulator/global_memory.h"

namespace xlstm {

namespace emulator {

LaunchConfig next_launch() {
  static std::uint64_t launches = 0;
  ++launches;
  return {.seed = launches, .arrival = launches % 2 == 0 ? Arrival::late : Arrival::immediate};
}

namespace {

class EmulatedGpu final : public Gpu {
 public:
  EmulatedGpu() { workspace = allocate(kWorkspaceBytes); }

  const GpuInfo& info() const override { return info_; }
  i64 available_bytes() const override { return i64{4} << 30; }

  std::byte* allocate(i64 bytes) override {
    constexpr std::size_t kAlignment = 256;
    const auto size = static_cast<std::size_t>(bytes);
    auto* data = static_cast<std::byte*>(std::aligned_alloc(kAlignment, (size / kAlignment + 1) * kAlignment));
    XL_CHECK(data != nullptr, "no memory for {} bytes", bytes);
    std::memset(data, 0, size);
    ranges_.emplace(data, std::make_unique<GlobalRange>(data, size));
    return data;
  }
  void release(std::byte* data) noexcept override {
    ranges_.erase(data);
    std::free(data);
  }

  void copy_in(std::byte* device, const void* host, i64 bytes) override {
    std::memcpy(device, host, static_cast<std::size_t>(bytes));
  }
  void copy_out(void* host, const std::byte* device, i64 bytes) override {
    std::memcpy(host, device, static_cast<std::size_t>(bytes));
  }
  void synchronize() override {}
  void* stream() const override { return nullptr; }
  double seconds_of(const std::function<void()>& work) override {
    const Timer timer;
    work();
    return timer.seconds();
  }
  void begin_range(const char*) override {}
  void end_range() override {}
  void repeat(double, const std::function<void()>& work) override { work(); }

  ~EmulatedGpu() override {
    while (!ranges_.empty()) release(ranges_.begin()->first);
  }

 private:
  GpuInfo info_{.name = "emulator",
                .driver = "none",
                .runtime = "none",
                .architecture = 90,
                .multiprocessors = 1,
                .shared_bytes = kHopperSharedBytes};
  std::map<std::byte*, std::unique_ptr<GlobalRange>> ranges_;
};

}  // namespace
}  // namespace emulator

std::unique_ptr<Gpu> open_gpu(int) { return std::make_unique<emulator::EmulatedGpu>(); }

}  // namespace xlstm
