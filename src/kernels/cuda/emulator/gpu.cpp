#include "kernels/cuda/emulator/gpu.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <vector>

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

thread_local std::vector<std::string>* recorded = nullptr;  // of the step that is being recorded

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
    check_not_recorded("copy_in");
    const DeviceAccess open;
    std::memcpy(device, host, static_cast<std::size_t>(bytes));
  }
  void copy_out(void* host, const std::byte* device, i64 bytes) override {
    check_not_recorded("copy_out");
    const DeviceAccess open;
    std::memcpy(host, device, static_cast<std::size_t>(bytes));
  }
  void synchronize() override { check_not_recorded("synchronize"); }
  void* stream() const override { return nullptr; }
  double seconds_of(const std::function<void()>& work) override {
    const Timer timer;
    work();
    return timer.seconds();
  }
  void begin_range(const char*) override {}
  void end_range() override {}
  // As on a GPU the first time is not recorded.
  void repeat(const std::function<void()>& work) override {
    std::vector<std::string> launches;
    recorded = repetitions_ > 0 ? &launches : nullptr;
    try {
      work();
    } catch (...) {
      recorded = nullptr;
      throw;
    }
    recorded = nullptr;
    if (repetitions_++ > 1 && launches != launches_)
      throw EmulatorFault(fmt::format("what a step launched is not what was recorded: {}", difference(launches)));
    launches_ = std::move(launches);
  }

 private:
  static void check_not_recorded(const char* what) {
    if (recorded) throw EmulatorFault(fmt::format("{} in a step that is recorded", what));
  }
  std::string difference(const std::vector<std::string>& now) const {
    if (now.size() != launches_.size()) return fmt::format("{} launches, not {}", now.size(), launches_.size());
    const auto at = std::mismatch(now.begin(), now.end(), launches_.begin()).first - now.begin();
    return fmt::format("launch {} of {} has other arguments", at + 1, now.size());
  }

  GpuInfo info_{.name = "emulator",
                .driver = "none",
                .runtime = "none",
                .architecture = 90,
                .multiprocessors = 1,
                .shared_bytes = kHopperSharedBytes};
  std::map<std::byte*, std::unique_ptr<DeviceMemory>> memory_;
  i64 repetitions_ = 0;
  std::vector<std::string> launches_;  // of the last step
};

}  // namespace

void note_launch(std::string what) {
  if (recorded) recorded->push_back(std::move(what));
}

}  // namespace emulator

std::unique_ptr<Gpu> open_gpu(int) { return std::make_unique<emulator::EmulatedGpu>(); }

}  // namespace xlstm
