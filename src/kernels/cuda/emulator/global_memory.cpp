#include "kernels/cuda/emulator/global_memory.h"

#include <fmt/core.h>

#include <cstdint>
#include <map>

#include "kernels/cuda/emulator/shared_memory.h"

namespace xlstm::emulator {

namespace {

std::map<std::uintptr_t, std::size_t>& ranges() {
  static std::map<std::uintptr_t, std::size_t> all;  // begin -> bytes
  return all;
}

}  // namespace

GlobalRange::GlobalRange(const void* data, std::size_t bytes) : data_(data) {
  ranges()[reinterpret_cast<std::uintptr_t>(data)] = bytes;
}

GlobalRange::~GlobalRange() { ranges().erase(reinterpret_cast<std::uintptr_t>(data_)); }

void check_global(const void* address, std::size_t bytes, std::size_t alignment) {
  const auto at = reinterpret_cast<std::uintptr_t>(address);
  if (at % alignment != 0)
    throw EmulatorFault(fmt::format("global memory: {} bytes are not aligned to {}", bytes, alignment));
  auto range = ranges().upper_bound(at);
  if (range != ranges().begin()) {
    --range;
    if (at + bytes <= range->first + range->second) return;
    throw EmulatorFault(
        fmt::format("global memory: {} bytes at offset {} of a buffer of {}", bytes, at - range->first, range->second));
  }
  throw EmulatorFault(fmt::format("global memory: {} bytes outside of every buffer", bytes));
}

}  // namespace xlstm::emulator
