#pragma once
// Gradients of parameters that all rows share, as sums over rows in two stages, each in an order that the shape alone
// decides. The op's kernel adds up blocks of rows and writes what it gets to the workspace; add_partial_sums() adds
// these rows of partial sums to the gradient.
#include <algorithm>

#include "core/context.h"
#include "kernels/cuda/elements.cuh"

namespace xlstm::gpu {

struct RowBlocks {
  i64 rows = 0;   // per block; the last may have fewer
  i64 count = 0;  // at most kMost
  i64 columns = 0;
  float* partials = nullptr;  // (count, columns), dense

  static constexpr i64 kMost = 512;
};

// Blocks of a multiple of `unit` rows: writing and reading partial sums costs 8 / rows bytes per element.
inline RowBlocks row_blocks(Context& ctx, i64 rows, i64 columns, i64 unit) {
  const i64 fit = Gpu::kWorkspaceBytes / (std::max<i64>(columns, 1) * static_cast<i64>(sizeof(float)));
  XL_CHECK(fit > 0, "{} columns do not fit into the workspace", columns);
  const i64 most = std::min(fit, RowBlocks::kMost), units = (rows + unit - 1) / unit;
  const i64 block = std::max<i64>(1, (units + most - 1) / most) * unit;
  return {block, (rows + block - 1) / block, columns, reinterpret_cast<float*>(ctx.gpu->workspace)};
}

// out += sum of the blocks' partial sums; column j of them is element j of out, row by row.
void add_partial_sums(Context& ctx, Tensor out, const RowBlocks& blocks);

}  // namespace xlstm::gpu
