#include "kernels/cuda/emulator/gpu.h"

#include <cstring>
#include <map>

#include "core/profile.h"
#include "kernels/cuda/emulator/device_memory.h"

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
    auto memory = std::make_unique<DeviceMemory>(static_cast<std::size_t>(bytes));
    std::byte* const data = memory->data();
    memory_.emplace(data, std::move(memory));
    return data;
  }
  void release(std::byte* data) noexcept override { memory_.erase(data); }

  void copy_in(std::byte* device, const void* host, i64 bytes) override {
    const DeviceAccess open;
    std::memcpy(device, host, static_cast<std::size_t>(bytes));
  }
  void copy_out(void* host, const std::byte* device, i64 bytes) override {
    const DeviceAccess open;
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
  void repeat(const std::function<void()>& work) override { work(); }

 private:
  GpuInfo info_{.name = "emulator",
                .driver = "none",
                .runtime = "none",
                .architecture = 90,
                .multiprocessors = 1,
                .shared_bytes = kHopperSharedBytes};
  std::map<std::byte*, std::unique_ptr<DeviceMemory>> memory_;
};

}  // namespace
}  // namespace emulator

std::unique_ptr<Gpu> open_gpu(int) { return std::make_unique<emulator::EmulatedGpu>(); }

}  // namespace xlstm
