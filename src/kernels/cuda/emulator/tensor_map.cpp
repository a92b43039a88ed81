#include "kernels/cuda/emulator/tensor_map.h"

#include <algorithm>

#include "kernels/cuda/emulator/global_memory.h"

namespace xlstm::emulator {

namespace {

// The part of a box's row that lies inside, as columns of the box.
struct Inside {
  bf16* data = nullptr;
  int first = 0, count = 0;
};

Inside inside(const TensorMap& map, BoxPlace at, int row) {
  const std::int64_t r = std::int64_t{at.row} + row;
  if (r < 0 || r >= map.rows || at.plane < 0 || at.plane >= map.planes) return {};
  const int first = std::max(0, -at.column);
  const auto end = static_cast<int>(std::min<std::int64_t>(64, map.columns - at.column));
  if (end <= first) return {};
  bf16* const data = map.data + at.plane * map.plane_stride + r * map.row_stride + at.column + first;
  check_global(data, static_cast<std::size_t>(end - first) * 2, 2);
  return {data, first, end - first};
}

}  // namespace

void read_box_row(const TensorMap& map, BoxPlace at, int row, bf16 (&out)[64]) {
  std::fill(out, out + 64, bf16{});
  const Inside part = inside(map, at, row);
  std::copy_n(part.data, part.count, out + part.first);
}

void write_box_row(const TensorMap& map, BoxPlace at, int row, const bf16 (&from)[64]) {
  const Inside part = inside(map, at, row);
  std::copy_n(from + part.first, part.count, part.data);
}

}  // namespace xlstm::emulator
