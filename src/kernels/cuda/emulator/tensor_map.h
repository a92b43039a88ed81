#pragma once
// A tensor map on the CPU: bf16 (planes, rows, columns) in global memory, moved in boxes of 64 columns and some rows of
// one plane. In shared memory a box has rows of 128 bytes, swizzled: bits 4 to 6 of the address by bits 7 to 9. What
// lies outside is read as zero and not written.
#include <cstdint>

#include "core/bf16.h"

namespace xlstm::emulator {

constexpr std::uint32_t kBoxRowBytes = 128;

inline std::uint32_t swizzled(std::uint32_t address) { return address ^ ((address >> 7 & 7) << 4); }

struct TensorMap {
  bf16* data = nullptr;
  std::int64_t columns = 0, rows = 0, planes = 0;
  std::int64_t row_stride = 0, plane_stride = 0;  // elements
  int box_rows = 0;

  std::uint32_t box_bytes() const { return static_cast<std::uint32_t>(box_rows) * kBoxRowBytes; }
};

struct BoxPlace {
  int column = 0, row = 0, plane = 0;
};

// One row of a box as it lies in memory, not swizzled; faults outside of every buffer.
void read_box_row(const TensorMap& map, BoxPlace at, int row, bf16 (&out)[64]);
void write_box_row(const TensorMap& map, BoxPlace at, int row, const bf16 (&from)[64]);

}  // namespace xlstm::emulator
