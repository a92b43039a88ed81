// SwiGLU: a thread takes a run of columns of gate and up, and reads and writes each once.
#include "kernels/cuda/activations.cuh"
#include "kernels/cuda/elements.cuh"
#include "kernels/cuda/launch.h"
#include "kernels/ops.h"

namespace xlstm::gpu {

using namespace dialect;

namespace {

constexpr int kThreads = 128;

template <class T>
struct Swiglu {
  Rows<T> y, gate_up;    // forward: y is written
  Rows<T> dy, dgate_up;  // backward: absent in forward
  i64 cols;              // of y
  int blocks;            // CTAs to a row
};

template <class T, int W>
XL_KERNEL(kThreads, 8)
swiglu_forward_runs(const Swiglu<T> p) {
  const int block = static_cast<int>(block_index().x), row = block / p.blocks,
            column = (block % p.blocks * kThreads + thread_index()) * W;
  if (column >= p.cols) return;
  float gate[W], up[W], y[W];
  load_floats<W>(gate, p.gate_up.row(row) + column);
  load_floats<W>(up, p.gate_up.row(row) + p.cols + column);
  for (int i = 0; i < W; ++i) y[i] = gate[i] * sigmoid(gate[i]) * up[i];
  store_floats<W>(p.y.row(row) + column, y);
}

// silu'(g) = s (1 + g (1 - s)), s = sigmoid(g)
template <class T, int W>
XL_KERNEL(kThreads, 8)
swiglu_backward_runs(const Swiglu<T> p) {
  const int block = static_cast<int>(block_index().x), row = block / p.blocks,
            column = (block % p.blocks * kThreads + thread_index()) * W;
  if (column >= p.cols) return;
  float gate[W], up[W], dy[W];
  load_floats<W>(gate, p.gate_up.row(row) + column);
  load_floats<W>(up, p.gate_up.row(row) + p.cols + column);
  load_floats<W>(dy, p.dy.row(row) + column);
  for (int i = 0; i < W; ++i) {
    const float g = gate[i], s = sigmoid(g), ds = dy[i] * s;
    gate[i] = ds * up[i] * (1.f + g * (1.f - s));
    up[i] = ds * g;
  }
  store_floats<W>(p.dgate_up.row(row) + column, gate);
  store_floats<W>(p.dgate_up.row(row) + p.cols + column, up);
}

template <class T>
void start(Context& ctx, i64 rows, int width, void (*kernel)(const Swiglu<T>), Swiglu<T> p) {
  const i64 per_block = i64{kThreads} * width;
  p.blocks = static_cast<int>((p.cols + per_block - 1) / per_block);
  launch(ctx, {.x = rows * p.blocks, .threads = kThreads}, kernel, p);
}

}  // namespace

void swiglu_forward(Context& ctx, Tensor y, Tensor gate_up) {
  check_shape(y, y.rows, y.cols, y.dtype);
  check_shape(gate_up, y.rows, 2 * y.cols, y.dtype);
  with_gpu_type(y.dtype, [&]<class T>() {
    const Swiglu<T> p{rows_of<T>(y), rows_of<T>(gate_up), {}, {}, y.cols, 0};
    if (all_wide(y, gate_up)) return start(ctx, y.rows, kWide<T>, &swiglu_forward_runs<T, kWide<T>>, p);
    start(ctx, y.rows, 1, &swiglu_forward_runs<T, 1>, p);
  });
}

void swiglu_backward(Context& ctx, Tensor dgate_up, Tensor dy, Tensor gate_up) {
  check_shape(dy, dy.rows, dy.cols, dy.dtype);
  for (const Tensor& t : {dgate_up, gate_up}) check_shape(t, dy.rows, 2 * dy.cols, dy.dtype);
  with_gpu_type(dy.dtype, [&]<class T>() {
    const Swiglu<T> p{{}, rows_of<T>(gate_up), rows_of<T>(dy), rows_of<T>(dgate_up), dy.cols, 0};
    if (all_wide(dy, dgate_up, gate_up)) return start(ctx, dy.rows, kWide<T>, &swiglu_backward_runs<T, kWide<T>>, p);
    start(ctx, dy.rows, 1, &swiglu_backward_runs<T, 1>, p);
  });
}

}  // namespace xlstm::gpu
