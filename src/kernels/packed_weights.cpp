#include "kernels/packed_weights.h"

#include <functional>

namespace xlstm {

PackedWeights::Place PackedWeights::take(const Tensor& w) {
  constexpr i64 kPanel = 32;
  const std::less<const std::byte*> before;
  if (row_.rows == 0 || before(w.data, row_.data) || !before(w.data, row_.data + row_.bytes())) return {};
  if (w.dtype != DType::bf16 || !w.dense() || w.rows % kPanel != 0 || w.cols % kPanel != 0) return {};
  const Place place{reinterpret_cast<std::uint32_t*>(packed_.data + (w.data - row_.data))};
  const i64 at = (w.data - row_.data) / size_of(DType::bf16);
  for (const Matrix& m : matrices_) {
    if (m.at == at && m.rows == w.rows && m.cols == w.cols) return {place.words, /*ready=*/true};
    if (m.at < at + w.size() && at < m.at + m.rows * m.cols) return {};  // part of another one
  }
  matrices_.push_back({at, w.rows, w.cols});
  return place;
}

}  // namespace xlstm
