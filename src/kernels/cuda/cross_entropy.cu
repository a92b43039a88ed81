// Cross entropy behind a soft cap, and its gradient: a CTA per row of logits.
#include <limits>

#include "kernels/cuda/cta_sums.cuh"
#include "kernels/cuda/launch.h"
#include "kernels/ops.h"

namespace xlstm::gpu {

using namespace dialect;

namespace {

constexpr int kWarps = 16, kThreads = 32 * kWarps;

template <class D>
struct CrossEntropy {
  Rows<float> loss, logits;
  Rows<D> dz;
  Rows<std::int32_t> targets;
  i64 classes;
  const double* scale;
  float cap, inverse_cap;
};

// Shared memory: what the warps have for a maximum and for a sum, and the row if it is kept.
constexpr std::uint32_t kMaxima = 0, kSums = 4 * kWarps, kRow = 2 * 4 * kWarps;

template <int W>
struct alignas(4 * W) Group {
  float f[W];
};

XL_DEVICE std::uint32_t place_of(i64 column) { return shared_begin() + kRow + 4 * static_cast<std::uint32_t>(column); }

// With t = tanh(z / cap), every difference c_a - c_b is taken as cap (t_a - t_b): exactly 0 where a = b, however the
// compiler fuses.
template <class D>
XL_DEVICE float tanh_of(const CrossEntropy<D>& p, float z) {
  return tanhf(z * p.inverse_cap);
}

// The largest logit; a kept row is now in shared memory, where every thread reads only what it wrote itself.
template <class D, int W, bool kKept>
XL_DEVICE float read_row(const CrossEntropy<D>& p, const float* logits) {
  constexpr int kDepth = 4, kStep = kThreads * W;
  float top = -std::numeric_limits<float>::infinity();
  for (i64 first = thread_index() * W; first < p.classes; first += kDepth * kStep) {
    Group<W> z[kDepth];
    XL_UNROLL
    for (int k = 0; k < kDepth; ++k) {
      for (int j = 0; j < W; ++j) z[k].f[j] = top;
      if (first + k * kStep < p.classes) load_floats<W>(z[k].f, logits + first + k * kStep);
    }
    XL_UNROLL
    for (int k = 0; k < kDepth; ++k) {
      if constexpr (kKept)
        if (first + k * kStep < p.classes) shared_store(place_of(first + k * kStep), z[k]);
      for (int j = 0; j < W; ++j) top = z[k].f[j] > top ? z[k].f[j] : top;
    }
  }
  return cta_max<kWarps>(top, shared_begin() + kMaxima);
}

// Sum of e^(c - top). A kept row then holds e^(c - top) (1 - t^2).
template <class D, int W, bool kKept, bool kGradient>
XL_DEVICE float sum_row(const CrossEntropy<D>& p, const float* logits, float top) {
  float sum[W] = {};
  for (i64 column = thread_index() * W; column < p.classes; column += kThreads * W) {
    Group<W> z;
    if constexpr (kKept)
      z = shared_load<Group<W>>(place_of(column));
    else
      load_floats<W>(z.f, logits + column);
    XL_UNROLL
    for (int j = 0; j < W; ++j) {
      const float t = tanh_of(p, z.f[j]), e = expf(p.cap * (t - top));
      sum[j] += e;
      z.f[j] = e * (1 - t * t);
    }
    if constexpr (kKept && kGradient) shared_store(place_of(column), z);
  }
  float total = sum[0];
  for (int j = 1; j < W; ++j) total += sum[j];
  return cta_sum<kWarps>(total, shared_begin() + kSums);
}

// dz = scale e^(c - top) (1 - t^2) / sum, at the target scale (e^(c - top) / sum - 1) (1 - t^2).
template <class D, int W, bool kKept>
XL_DEVICE void write_gradient(const CrossEntropy<D>& p, const float* logits, D* dz, float top, float sum, i64 target,
                              float hit) {
  const auto scale = static_cast<float>(global_load(p.scale));
  const float factor = scale / sum;
  const float at_target = (expf(p.cap * (hit - top)) * factor - scale) * (1 - hit * hit);
  for (i64 column = thread_index() * W; column < p.classes; column += kThreads * W) {
    Group<W> d;
    if constexpr (kKept) {
      d = shared_load<Group<W>>(place_of(column));
    } else {
      load_floats<W>(d.f, logits + column);
      XL_UNROLL
      for (int j = 0; j < W; ++j) {
        const float t = tanh_of(p, d.f[j]);
        d.f[j] = expf(p.cap * (t - top)) * (1 - t * t);
      }
    }
    XL_UNROLL
    for (int j = 0; j < W; ++j) d.f[j] = column + j == target ? at_target : d.f[j] * factor;
    store_floats<W>(dz + column, d.f);
  }
}

// Bytes of a row: logits once and dz once where the row is kept. Otherwise logits twice more (once without a gradient),
// from the second-level cache as far as it holds the rows of all CTAs.
template <class D, int W, bool kKept, bool kGradient>
XL_KERNEL(kThreads, 2)
cross_entropy_rows(const CrossEntropy<D> p) {
  const i64 row = block_index().x;
  const i64 target = global_load(p.targets.row(row));
  const float* const logits = p.logits.row(row);
  if (target < 0 || target >= p.classes) {
    if (thread_index() == 0)
      global_store(p.loss.row(row), target == -1 ? 0.f : std::numeric_limits<float>::quiet_NaN());
    if constexpr (kGradient)
      for (i64 column = thread_index() * W; column < p.classes; column += kThreads * W) {
        const float zeros[W] = {};
        store_floats<W>(p.dz.row(row) + column, zeros);
      }
    return;
  }
  const float hit = tanh_of(p, global_load(logits + target));  // read before dz, which may lie there, is written
  const float top = tanh_of(p, read_row<D, W, kKept>(p, logits));
  const float sum = sum_row<D, W, kKept, kGradient>(p, logits, top);
  if (thread_index() == 0) global_store(p.loss.row(row), logf(sum) + p.cap * (top - hit));
  if constexpr (kGradient) write_gradient<D, W, kKept>(p, logits, p.dz.row(row), top, sum, target, hit);
}

template <class D, bool kGradient>
void start(Context& ctx, const CrossEntropy<D>& p, i64 rows, bool wide) {
  const auto run = [&]<int W>() {
    const i64 bytes = i64{kRow} + (p.classes + W - 1) / W * W * 4;
    if (bytes <= ctx.gpu->info().shared_bytes)
      launch(ctx, {.x = rows, .threads = kThreads, .shared_bytes = static_cast<int>(bytes)},
             &cross_entropy_rows<D, W, true, kGradient>, p);
    else
      launch(ctx, {.x = rows, .threads = kThreads, .shared_bytes = static_cast<int>(kRow)},
             &cross_entropy_rows<D, W, false, kGradient>, p);
  };
  wide ? run.template operator()<4>() : run.template operator()<1>();
}

template <class D>
CrossEntropy<D> checked(const Tensor& loss, const Tensor& dz, const Tensor& logits, const Tensor& targets,
                        const double* scale, double cap) {
  check_shape(logits, logits.rows, logits.cols, DType::f32);
  check_shape(loss, logits.rows, 1, DType::f32);
  check_shape(targets, logits.rows, 1, DType::i32);
  XL_CHECK(cap > 0 && logits.cols > 0, "cap {} and {} classes", cap, logits.cols);
  return {rows_of<float>(loss),
          rows_of<float>(logits),
          rows_of<D>(dz),
          rows_of<std::int32_t>(targets),
          logits.cols,
          scale,
          static_cast<float>(cap),
          static_cast<float>(1 / cap)};
}

}  // namespace

void cross_entropy(Context& ctx, Tensor loss, Tensor dz, Tensor logits, Tensor targets, Tensor scale, double cap) {
  check_shape(dz, logits.rows, logits.cols, dz.dtype);
  check_shape(scale, 1, 1, DType::f64);
  with_gpu_type(dz.dtype, [&]<class D>() {
    start<D, true>(ctx, checked<D>(loss, dz, logits, targets, scale.row<double>(), cap), logits.rows,
                   all_wide(dz, logits));
  });
}

void cross_entropy_forward(Context& ctx, Tensor loss, Tensor logits, Tensor targets, double cap) {
  start<float, false>(ctx, checked<float>(loss, {}, logits, targets, nullptr, cap), logits.rows, all_wide(logits));
}

}  // namespace xlstm::gpu
