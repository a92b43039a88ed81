// The second stage of the gradients' sums over rows, and how rows are cut into blocks for the first.
#include "kernels/cuda/column_sums.cuh"

#include <gtest/gtest.h>

#include <vector>

namespace xlstm {
namespace {

struct Rig {
  std::unique_ptr<Gpu> gpu = open_gpu(0);
  std::byte memory[1];
  Arena scratch{"scratch", memory, 0};
  Context ctx{.device = Device::cuda, .gpu = gpu.get(), .scratch = &scratch};
};

TEST(ColumnSums, BlocksCoverAllRowsInTheWorkspace) {
  Rig rig;
  for (const i64 unit : {32, 128})
    for (const i64 rows : {0, 1, 31, 32, 33, 16384, 16385, 70000, 1 << 20})
      for (const i64 columns : {1, 2048, 64 * 4096, 1 << 24}) {
        const gpu::RowBlocks blocks = gpu::row_blocks(rig.ctx, rows, columns, unit);
        SCOPED_TRACE(fmt::format("{} rows, {} columns: {} blocks of {}", rows, columns, blocks.count, blocks.rows));
        EXPECT_GE(blocks.count * blocks.rows, rows);
        EXPECT_LT((blocks.count - 1) * blocks.rows, rows);
        EXPECT_LE(blocks.count, gpu::RowBlocks::kMost);
        EXPECT_LE(blocks.count * columns * 4, Gpu::kWorkspaceBytes);
        EXPECT_EQ(blocks.rows % unit, 0);
      }
  EXPECT_THROW(gpu::row_blocks(rig.ctx, 1, (1 << 24) + 1, 32), Error);
}

// Whole numbers: every order of their sum is exact.
TEST(ColumnSums, AddsEveryBlockOnce) {
  Rig rig;
  constexpr i64 kRows = 3, kCols = 13, kPadding = 2;
  for (const i64 count : {1, 2, 7, 8, 9, 100, 511, 512}) {
    const gpu::RowBlocks blocks = gpu::row_blocks(rig.ctx, 32 * count, kRows * kCols, 32);
    ASSERT_EQ(blocks.count, count);
    std::vector<float> partials(static_cast<std::size_t>(count * blocks.columns));
    for (std::size_t i = 0; i < partials.size(); ++i) partials[i] = static_cast<float>(i * i % 97);
    rig.gpu->copy_in(reinterpret_cast<std::byte*>(blocks.partials), partials.data(),
                     static_cast<i64>(partials.size() * sizeof(float)));
    Tensor out{
        rig.gpu->allocate(kRows * (kCols + kPadding) * 4), DType::f32, Device::cuda, kRows, kCols, kCols + kPadding};
    gpu::add_partial_sums(rig.ctx, out, blocks);
    gpu::add_partial_sums(rig.ctx, out, blocks);
    std::vector<float> sums(kRows * (kCols + kPadding));
    rig.gpu->copy_out(sums.data(), out.data, static_cast<i64>(sums.size() * sizeof(float)));
    for (i64 j = 0; j < blocks.columns; ++j) {
      float want = 0;
      for (i64 b = 0; b < count; ++b) want += 2 * partials[static_cast<std::size_t>(b * blocks.columns + j)];
      EXPECT_EQ(sums[static_cast<std::size_t>(j / kCols * (kCols + kPadding) + j % kCols)], want)
          << count << " blocks, column " << j;
    }
    EXPECT_EQ(sums[kCols], 0) << "written between rows";
  }
}

}  // namespace
}  // namespace xlstm
