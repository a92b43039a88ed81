#pragma once
// Memory of the emulated device: pages that the host can touch only while a kernel or a copy runs. Whoever reads device
// memory from the host gets the segmentation fault here that a GPU would give him.
#include <cstddef>
#include <memory>

#include "kernels/cuda/emulator/global_memory.h"

namespace xlstm::emulator {

class DeviceMemory {
 public:
  explicit DeviceMemory(std::size_t bytes);  // zeroed; UserError where there is none
  ~DeviceMemory();
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;
  std::byte* data() const { return data_; }

 private:
  std::byte* data_;
  std::size_t mapped_;
  std::unique_ptr<GlobalRange> range_;
};

// While one of these lives, on any thread, all device memory is open.
class DeviceAccess {
 public:
  DeviceAccess();
  ~DeviceAccess();
  DeviceAccess(const DeviceAccess&) = delete;
  DeviceAccess& operator=(const DeviceAccess&) = delete;
};

}  // namespace xlstm::emulator
