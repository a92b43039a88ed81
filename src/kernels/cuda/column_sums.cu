// The second stage of sums over rows. A CTA takes 32 columns: its warps add up runs of blocks, then one of them the
// warps' sums. The partial sums were just written and mostly lie in the L2 cache.
#include "kernels/cuda/column_sums.cuh"
#include "kernels/cuda/launch.h"

namespace xlstm::gpu {

using namespace dialect;

namespace {

constexpr int kMostThreads = 512;
constexpr int kLoads = 8;  // in flight per thread

struct PartialSums {
  const float* partials;
  Rows<float> out;
  i64 out_cols, columns;
  int blocks, warps;
};

XL_KERNEL(kMostThreads, 2)
add_partials(const PartialSums p) {
  const i64 column = i64{block_index().x} * 32 + lane_index();
  const int per_warp = (p.blocks + p.warps - 1) / p.warps, begin = warp_index() * per_warp;
  const int end = begin + per_warp < p.blocks ? begin + per_warp : p.blocks;
  const bool inside = column < p.columns;
  float sum = 0;
  for (int block = begin; block < end; block += kLoads) {
    float x[kLoads];
    XL_UNROLL
    for (int i = 0; i < kLoads; ++i)
      x[i] = inside && block + i < end ? global_load(p.partials + (block + i) * p.columns + column) : 0.f;
    XL_UNROLL
    for (int i = 0; i < kLoads; ++i) sum += x[i];
  }
  const std::uint32_t shared = shared_begin() + static_cast<std::uint32_t>(lane_index()) * kFloat;
  shared_store(shared + static_cast<std::uint32_t>(warp_index()) * 32 * kFloat, sum);
  sync_cta();
  if (warp_index() != 0 || !inside) return;
  float* const to = p.out.row(column / p.out_cols) + column % p.out_cols;
  global_store(to, global_load(to) + shared_column_sum(shared, p.warps, 32));
}

}  // namespace

void add_partial_sums(Context& ctx, Tensor out, const RowBlocks& blocks) {
  if (blocks.count == 0) return;
  XL_CHECK(out.size() == blocks.columns, "{} sums for {} elements", blocks.columns, out.size());
  const int count = static_cast<int>(blocks.count);
  const int warps = std::min(kMostThreads / 32, (count + kLoads - 1) / kLoads);
  launch(ctx, {.x = (blocks.columns + 31) / 32, .threads = 32 * warps, .shared_bytes = 32 * warps * 4}, &add_partials,
         {blocks.partials, rows_of<float>(out), out.cols, blocks.columns, count, warps});
}

}  // namespace xlstm::gpu
