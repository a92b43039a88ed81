#pragma once
// Memory of the calling thread that a kernel may scribble on until it returns; aligned to 64 bytes. It grows with what
// is asked for and stays: of all steps only the first allocates.
#include <algorithm>

#include "core/tensor.h"

namespace xlstm {

std::byte* thread_scratch(i64 bytes);

// The most that products ask for; the loss asks for a row of logits in f32. The library of f32 products takes memory of
// its own for every thread that calls it: 8.2 MiB, measured (docs/architecture.md).
constexpr i64 kProductScratchBytes = i64{2} << 20, kLibraryScratchBytes = i64{9} << 20;

// Rows whose columns are summed up are cut into parts, by their number alone; the thread that calls the operation has
// the sums of all parts, each from a cache line's begin on.
struct RowParts {
  static constexpr i64 kGrain = 16, kMost = 128, kLine = 16;
  i64 size, count;  // rows of a part
  explicit RowParts(i64 rows) {
    const i64 grains = (rows + kGrain - 1) / kGrain;
    size = std::max<i64>(1, (grains + kMost - 1) / kMost) * kGrain;
    count = (rows + size - 1) / size;
  }
  static i64 stride(i64 columns) { return (columns + kLine - 1) / kLine * kLine; }
};

template <class T>
T* thread_scratch_of(i64 count) {
  return reinterpret_cast<T*>(thread_scratch(count * static_cast<i64>(sizeof(T))));
}

}  // namespace xlstm
