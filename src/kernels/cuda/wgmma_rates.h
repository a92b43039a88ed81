#pragma once
// How fast the parts of an H100 or H200 are, each alone, of which the cell's scan is made: for `xlstm bench device`.
// Every call starts one kernel.
#include "core/context.h"

namespace xlstm::gpu {

struct ProductRate {
  int columns = 64;       // of m64nNk16: 64, or with a in registers 256, as the state is updated
  bool registers = true;  // where a is, or it is in shared memory
  int warpgroups = 1;     // of a multiprocessor: 1 or 2
};
constexpr int kProductsPerBatch = 32;
// FLOPs in all. sink: f32, (CTAs * warpgroups, 1): an accumulator of each.
[[gnu::weak]] double run_product_rate(Context& ctx, const ProductRate& which, i64 batches, Tensor sink);

// Boxes of 64 x 64 from L2 to shared memory; in a cluster every CTA loads its share of them for all. Bytes that arrive,
// at all CTAs together. from: bf16, rows and columns multiples of 64. sink: f32, (CTAs, 32): sums of the first words of
// all boxes.
[[gnu::weak]] double run_copy_rate(Context& ctx, int cluster, i64 boxes, Tensor from, Tensor sink);

// Clusters of CTAs with all the shared memory of a multiprocessor each, as the scan's are. 0: nobody knows.
[[gnu::weak]] int clusters_at_once(Context& ctx, int cluster);

}  // namespace xlstm::gpu
