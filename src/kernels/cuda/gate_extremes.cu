// The largest and the smallest pre-activation of every gate: a CTA goes down one column.
#include <cmath>

#include "kernels/cuda/elements.cuh"
#include "kernels/cuda/launch.h"
#include "kernels/ops.h"

namespace xlstm::gpu {

using namespace dialect;

namespace {

constexpr int kThreads = 256;
constexpr int kLoads = 8;  // in flight per thread

struct GateColumns {
  Rows<float> pre, extremes;
  const float* bias;
  i64 rows;
};

XL_KERNEL(kThreads, 4)
column_extremes(const GateColumns p) {
  const i64 column = block_index().x;
  float largest = -INFINITY, smallest = INFINITY;
  for (i64 begin = thread_index(); begin < p.rows; begin += i64{kThreads} * kLoads) {
    float x[kLoads];
    XL_UNROLL
    for (int i = 0; i < kLoads; ++i) {
      const i64 row = begin + i64{i} * kThreads;
      x[i] = global_load(p.pre.row(row < p.rows ? row : begin) + column);  // behind the end: one that counts anyway
    }
    XL_UNROLL
    for (int i = 0; i < kLoads; ++i) {
      largest = fmaxf(largest, x[i]);
      smallest = fminf(smallest, x[i]);
    }
  }
  XL_UNROLL
  for (int mask = 16; mask > 0; mask /= 2) {
    largest = fmaxf(largest, shuffle_xor(largest, mask));
    smallest = fminf(smallest, shuffle_xor(smallest, mask));
  }
  constexpr std::uint32_t kWarps = kThreads / 32;
  const std::uint32_t mine = shared_begin() + static_cast<std::uint32_t>(warp_index()) * kFloat;
  if (lane_index() == 0) {
    shared_store(mine, largest);
    shared_store(mine + kWarps * kFloat, smallest);
  }
  sync_cta();
  if (thread_index() != 0) return;
  for (std::uint32_t warp = 0; warp < kWarps; ++warp) {
    largest = fmaxf(largest, shared_load<float>(shared_begin() + warp * kFloat));
    smallest = fminf(smallest, shared_load<float>(shared_begin() + (kWarps + warp) * kFloat));
  }
  const float bias = global_load(p.bias + column);
  float *const high = p.extremes.row(0) + column, *const low = p.extremes.row(1) + column;
  global_store(high, fmaxf(global_load(high), largest + bias));
  global_store(low, fminf(global_load(low), smallest + bias));
}

}  // namespace

void gate_extremes(Context& ctx, Tensor extremes, Tensor pre, Tensor bias) {
  check_shape(extremes, 2, pre.cols, DType::f32);
  check_shape(pre, pre.rows, pre.cols, DType::f32);
  check_shape(bias, 1, pre.cols, DType::f32);
  launch(ctx, {.x = pre.cols, .threads = kThreads, .shared_bytes = 2 * kThreads / 32 * static_cast<int>(kFloat)},
         &column_extremes, {rows_of<float>(pre), rows_of<float>(extremes), bias.row<float>(), pre.rows});
}

}  // namespace xlstm::gpu
