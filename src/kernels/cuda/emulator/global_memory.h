#pragma once
// Global memory as kernels may see it: the ranges that a test has registered. An access elsewhere is a fault.
#include <cstddef>

namespace xlstm::emulator {

class GlobalRange {
 public:
  GlobalRange(const void* data, std::size_t bytes);
  ~GlobalRange();
  GlobalRange(const GlobalRange&) = delete;
  GlobalRange& operator=(const GlobalRange&) = delete;

 private:
  const void* data_;
};

void check_global(const void* address, std::size_t bytes, std::size_t alignment);

}  // namespace xlstm::emulator
