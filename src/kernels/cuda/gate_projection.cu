// The gates' projection: few outputs (2H) for many inputs (D), so a matter of reading x once. All arithmetic is f32:
// tensor cores would round w. Outputs are taken 8 at a time; the shapes that matter have 8.
//
// A weight that is read from the L1 cache serves kRows rows: at the speed of HBM, 8 weights of 4 bytes per element of x
// and row would be twice what the cache delivers; shared by 4 rows they are half of that. For the same reason lanes
// take 4 columns, not 8, of bf16: 16 bytes of weights per lane side by side, without bank conflicts.
#include <algorithm>

#include "kernels/cuda/column_sums.cuh"
#include "kernels/cuda/launch.h"
#include "kernels/ops.h"

namespace xlstm::gpu {

using namespace dialect;

namespace {

constexpr int kThreads = 256, kWarps = kThreads / 32;
constexpr int kRows = 4, kOutputs = 8;  // of a warp at a time: 32 numbers, one per lane
constexpr i64 kCtaRows = kWarps * kRows;
constexpr i64 kBlockRows = 256;
static_assert(kRows * kOutputs == 32);

template <class T>
struct Projection {
  Rows<T> x;
  Rows<float> pre, w;
  i64 rows;
  int cols, outputs;
};

// Lane l gets the sum over lanes of x[l]: halves change hands, so 31 shuffles do what 160 would. A recursion, because
// x would leave the registers if the compiler did not unroll a loop over masks.
template <int kMask = 16>
XL_DEVICE float transposed_warp_sum(float (&x)[32]) {
  const bool upper = (lane_index() & kMask) != 0;
  XL_UNROLL
  for (int i = 0; i < kMask; ++i) {
    const float keep = upper ? x[i + kMask] : x[i], give = upper ? x[i] : x[i + kMask];
    x[i] = keep + shuffle_xor(give, kMask);
  }
  if constexpr (kMask > 1) return transposed_warp_sum<kMask / 2>(x);
  return x[0];
}

// pre = x w^T. Rows behind the last are the last again: they are not stored.
template <class T, int W>
XL_KERNEL(kThreads, 2)
project(const Projection<T> p) {
  const i64 first = i64{block_index().x} * kCtaRows + warp_index() * kRows;
  if (first >= p.rows) return;
  for (int tile = 0; tile < p.outputs; tile += kOutputs) {
    float sums[32] = {};  // row, output
    for (int column = lane_index() * W; column < p.cols; column += 32 * W) {
      float x[kRows][W];
      XL_UNROLL
      for (int r = 0; r < kRows; ++r)
        load_floats<W>(x[r], p.x.row(first + r < p.rows ? first + r : p.rows - 1) + column);
      XL_UNROLL
      for (int o = 0; o < kOutputs; ++o) {
        if (tile + o >= p.outputs) continue;
        float w[W];
        load_floats<W>(w, p.w.row(tile + o) + column);
        XL_UNROLL
        for (int r = 0; r < kRows; ++r)
          for (int i = 0; i < W; ++i) sums[r * kOutputs + o] += x[r][i] * w[i];
      }
    }
    const float sum = transposed_warp_sum(sums);
    const i64 row = first + lane_index() / kOutputs;
    const int output = tile + lane_index() % kOutputs;
    if (row < p.rows && output < p.outputs) global_store(p.pre.row(row) + output, sum);
  }
}

// pre[first + lane / 8][tile + lane % 8], 0 behind the ends: one coalesced load, spread by shuffles.
template <class T>
XL_DEVICE float load_tile(const Projection<T>& p, i64 first, i64 end, int tile) {
  const i64 row = first + lane_index() / kOutputs;
  const int output = tile + lane_index() % kOutputs;
  return row < end && output < p.outputs ? global_load(p.pre.row(row) + output) : 0.f;
}

// x += pre w, with x and pre being gradients
template <class T, int W>
XL_KERNEL(kThreads, 3)
add_input_gradient(const Projection<T> p) {
  const i64 first = i64{block_index().x} * kCtaRows + warp_index() * kRows;
  if (first >= p.rows) return;
  for (int begin = 0; begin < p.cols; begin += 32 * W) {
    const int column = begin + lane_index() * W;
    const bool inside = column < p.cols;
    float x[kRows][W] = {}, sums[kRows][W] = {};
    XL_UNROLL
    for (int r = 0; r < kRows; ++r)
      if (inside && first + r < p.rows) load_floats<W>(x[r], p.x.row(first + r) + column);
    for (int tile = 0; tile < p.outputs; tile += kOutputs) {
      const float pre = load_tile(p, first, p.rows, tile);
      XL_UNROLL
      for (int o = 0; o < kOutputs; ++o) {
        if (tile + o >= p.outputs) continue;
        float w[W] = {};
        if (inside) load_floats<W>(w, p.w.row(tile + o) + column);
        XL_UNROLL
        for (int r = 0; r < kRows; ++r) {
          const float d = shuffle_from(pre, r * kOutputs + o);
          for (int i = 0; i < W; ++i) sums[r][i] += d * w[i];
        }
      }
    }
    XL_UNROLL
    for (int r = 0; r < kRows; ++r) {
      for (int i = 0; i < W; ++i) x[r][i] += sums[r][i];
      if (inside && first + r < p.rows) store_floats<W>(p.x.row(first + r) + column, x[r]);
    }
  }
}

// This block's part of dw = pre^T x, with pre being a gradient. A CTA takes 32 W columns, 8 outputs and a block of
// rows, which its warps share.
template <class T, int W>
XL_KERNEL(kThreads, 2)
weight_gradient(const Projection<T> p, const RowBlocks blocks) {
  constexpr int kCols = 32 * W;
  const int left = static_cast<int>(block_index().x) * kCols, column = left + lane_index() * W;
  const int tile = static_cast<int>(block_index().z) * kOutputs;
  const i64 begin = i64{block_index().y} * blocks.rows;
  const i64 end = begin + blocks.rows < p.rows ? begin + blocks.rows : p.rows;
  float sums[kOutputs][W] = {};
  for (i64 row = begin + warp_index() * kRows; row < end; row += kCtaRows) {
    const float pre = load_tile(p, row, end, tile);
    float x[kRows][W] = {};
    XL_UNROLL
    for (int r = 0; r < kRows; ++r)
      if (column < p.cols && row + r < end) load_floats<W>(x[r], p.x.row(row + r) + column);
    XL_UNROLL
    for (int r = 0; r < kRows; ++r) {
      XL_UNROLL
      for (int o = 0; o < kOutputs; ++o) {
        const float d = shuffle_from(pre, r * kOutputs + o);
        for (int i = 0; i < W; ++i) sums[o][i] += d * x[r][i];
      }
    }
  }
  const auto slot = [](int warp, int output, int at) {
    return shared_begin() + static_cast<std::uint32_t>((warp * kOutputs + output) * kCols + at) * kFloat;
  };
  XL_UNROLL
  for (int o = 0; o < kOutputs; ++o) shared_store_floats<W>(slot(warp_index(), o, lane_index() * W), sums[o]);
  sync_cta();
  float* const partials = blocks.partials + i64{block_index().y} * blocks.columns;
  for (int index = thread_index(); index < kOutputs * kCols; index += kThreads) {
    const int output = tile + index / kCols, at = left + index % kCols;
    if (output < p.outputs && at < p.cols)
      global_store(partials + i64{output} * p.cols + at,
                   shared_column_sum(slot(0, 0, index), kWarps, kOutputs * kCols));
  }
}

template <class T>
Projection<T> projection(const Tensor& x, const Tensor& pre, const Tensor& w) {
  check_shape(x, x.rows, x.cols, x.dtype);
  check_shape(pre, x.rows, pre.cols, DType::f32);
  check_shape(w, pre.cols, x.cols, DType::f32);
  return {rows_of<T>(x), rows_of<float>(pre),      rows_of<float>(w),
          x.rows,        static_cast<int>(x.cols), static_cast<int>(pre.cols)};
}

i64 ctas(i64 rows) { return (rows + kCtaRows - 1) / kCtaRows; }

template <class T, int W>
void start_weight_gradient(Context& ctx, Tensor dw, const Projection<T>& p) {
  const RowBlocks blocks = row_blocks(ctx, p.rows, dw.size(), kBlockRows);
  launch(ctx,
         {.x = (p.cols + 32 * W - 1) / (32 * W),
          .y = blocks.count,
          .z = (p.outputs + kOutputs - 1) / kOutputs,
          .threads = kThreads,
          .shared_bytes = kWarps * kOutputs * 32 * W * static_cast<int>(kFloat)},
         &weight_gradient<T, W>, p, blocks);
  add_partial_sums(ctx, dw, blocks);
}

}  // namespace

void gate_projection_forward(Context& ctx, Tensor pre, Tensor x, Tensor w) {
  with_gpu_type(x.dtype, [&]<class T>() {
    const auto p = projection<T>(x, pre, w);
    const bool wide = all_wide(x, w);
    launch(ctx, {.x = ctas(x.rows), .threads = kThreads}, wide ? &project<T, 4> : &project<T, 1>, p);
  });
}

void gate_projection_backward(Context& ctx, Tensor dx, Tensor dw, Tensor dpre, Tensor x, Tensor w) {
  check_shape(dx, x.rows, x.cols, x.dtype);
  check_shape(dw, w.rows, w.cols, DType::f32);
  with_gpu_type(x.dtype, [&]<class T>() {
    const auto p = projection<T>(x, dpre, w);
    if (all_wide(x))
      start_weight_gradient<T, kWide<T>>(ctx, dw, p);
    else
      start_weight_gradient<T, 1>(ctx, dw, p);
    const bool wide = all_wide(dx, w);
    launch(ctx, {.x = ctas(x.rows), .threads = kThreads}, wide ? &add_input_gradient<T, 4> : &add_input_gradient<T, 1>,
           projection<T>(dx, dpre, w));
  });
}

}  // namespace xlstm::gpu
