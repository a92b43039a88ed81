// fill, copy, add, soft_cap: a CTA takes runs of columns of a row.
#include <algorithm>

#include "kernels/cuda/elements.cuh"
#include "kernels/cuda/launch.h"
#include "kernels/ops.h"

namespace xlstm::gpu {

using namespace dialect;

namespace {

constexpr int kThreads = 256;

// y = f(x, z), element by element; x and z may be absent, and of another type than y.
template <class Y, class X>
struct Elementwise {
  Rows<Y> y;
  Rows<X> x, z;
  i64 cols;
  float number;
};

enum class Kind { fill, copy, add, soft_cap };

template <class Y, class X, int W, Kind kKind>
XL_KERNEL(kThreads, 4)
elementwise(const Elementwise<Y, X> e) {
  const i64 row = block_index().y;
  const i64 column = (i64{block_index().x} * kThreads + thread_index()) * W;
  if (column >= e.cols) return;
  float x[W], z[W], y[W];
  if constexpr (kKind != Kind::fill) load_floats<W>(x, e.x.row(row) + column);
  if constexpr (kKind == Kind::add) load_floats<W>(z, e.z.row(row) + column);
  for (int i = 0; i < W; ++i) {
    if constexpr (kKind == Kind::fill) y[i] = e.number;
    if constexpr (kKind == Kind::copy) y[i] = x[i];
    if constexpr (kKind == Kind::add) y[i] = x[i] + z[i];
    if constexpr (kKind == Kind::soft_cap) y[i] = e.number * tanhf(x[i] / e.number);
  }
  store_floats<W>(e.y.row(row) + column, y);
}

template <class Y, class X, Kind kKind>
void start(Context& ctx, Tensor y, Tensor x, Tensor z, double number) {
  // One long row is as good as many short ones.
  if (y.dense() && (x.rows == 0 || x.dense()) && (z.rows == 0 || z.dense()) && y.size() > 0) {
    y = y.flat();
    if (x.rows > 0) x = x.flat();
    if (z.rows > 0) z = z.flat();
  }
  const Elementwise<Y, X> e{rows_of<Y>(y), rows_of<X>(x), rows_of<X>(z), y.cols, static_cast<float>(number)};
  const auto run = [&](auto kernel, int width) {
    const i64 per_block = i64{kThreads} * width;
    for (i64 row = 0; row < y.rows; row += 65535) {
      Elementwise<Y, X> part = e;
      part.y.data += row * e.y.stride, part.x.data += row * e.x.stride, part.z.data += row * e.z.stride;
      launch(ctx, {.x = (y.cols + per_block - 1) / per_block, .y = std::min<i64>(y.rows - row, 65535)}, kernel, part);
    }
  };
  // as many elements at a time as the wider type allows
  constexpr int kWidth = kWide<X> < kWide<Y> ? kWide<X> : kWide<Y>;
  if (all_wide(y, x, z))
    run(&elementwise<Y, X, kWidth, kKind>, kWidth);
  else
    run(&elementwise<Y, X, 1, kKind>, 1);
}

}  // namespace

void fill(Context& ctx, Tensor y, double value) {
  with_gpu_type(y.dtype, [&]<class T>() { start<T, T, Kind::fill>(ctx, y, {}, {}, value); });
}

void copy(Context& ctx, Tensor y, Tensor x) {
  check_shape(x, y.rows, y.cols, x.dtype);
  with_gpu_type(y.dtype, [&]<class Y>() {
    with_gpu_type(x.dtype, [&]<class X>() { start<Y, X, Kind::copy>(ctx, y, x, {}, 0); });
  });
}

void add(Context& ctx, Tensor y, Tensor x, Tensor z) {
  check_shape(x, y.rows, y.cols, y.dtype);
  check_shape(z, y.rows, y.cols, y.dtype);
  with_gpu_type(y.dtype, [&]<class T>() { start<T, T, Kind::add>(ctx, y, x, z, 0); });
}

void soft_cap(Context& ctx, Tensor y, Tensor x, double cap) {
  check_shape(x, y.rows, y.cols, y.dtype);
  with_gpu_type(y.dtype, [&]<class T>() { start<T, T, Kind::soft_cap>(ctx, y, x, {}, cap); });
}

}  // namespace xlstm::gpu
