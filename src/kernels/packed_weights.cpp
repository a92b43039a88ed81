#include "kernels/packed_weights.h"

#include <algorithm>
#include <functional>
#include <utility>

namespace xlstm {

PackedWeights::PackedWeights(Arena& arena, Tensor row, bool backward) : row_(row) {
  for (const bool transposed : {false, true})
    if (transposed || backward) packed_[transposed] = arena.alloc("packed weights", DType::bf16, 1, row.cols);
}

PackedWeights::Place PackedWeights::take(const Tensor& w, bool transposed) {
  constexpr i64 kPanel = 32;
  const std::less<const std::byte*> before;
  if (row_.rows == 0 || packed_[transposed].rows == 0 || before(w.data, row_.data) ||
      !before(w.data, row_.data + row_.bytes()))
    return {};
  if (w.dtype != DType::bf16 || !w.dense() || w.rows % kPanel != 0 || w.cols % kPanel != 0) return {};
  const Matrix is{(w.data - row_.data) / size_of(DType::bf16), w.rows, w.cols};
  auto known = std::find_if(matrices_.begin(), matrices_.end(),
                            [&](const Matrix& m) { return m.at < is.at + w.size() && is.at < m.at + m.rows * m.cols; });
  if (known == matrices_.end()) known = matrices_.insert(known, is);
  if (known->at != is.at || known->rows != is.rows || known->cols != is.cols) return {};  // part of another one
  return {reinterpret_cast<std::uint32_t*>(packed_[transposed].data + (w.data - row_.data)),
          std::exchange(known->ready[transposed], true)};
}

}  // namespace xlstm
