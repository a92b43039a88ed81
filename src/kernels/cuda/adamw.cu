// The end of an update: clipping, then one pass over weights, both moments and gradients.
#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/cuda/cta_sums.cuh"
#include "kernels/cuda/launch.h"
#include "kernels/ops.h"

namespace xlstm::gpu {

using namespace dialect;

namespace {

constexpr int kWarps = 8, kThreads = 32 * kWarps;

XL_DEVICE constexpr int index_of(UpdateScalar s) { return static_cast<int>(s); }

struct Clip {
  double* scalars;
  Rows<double> loss_sums, square_sums;
  i64 losses, squares;
  double limit;
};

XL_DEVICE double column_sum(const Rows<double>& x, i64 n, std::uint32_t at) {
  double sum = 0;
  for (i64 r = thread_index(); r < n; r += kThreads) sum += global_load(x.row(r));
  return cta_sum<kWarps>(sum, at);
}
XL_DEVICE bool finite(double x) { return fabs(x) <= std::numeric_limits<double>::max(); }

XL_KERNEL(kThreads, 1)
clip_scalars(const Clip c) {
  const double loss_sum = column_sum(c.loss_sums, c.losses, shared_begin());
  const double squares = column_sum(c.square_sums, c.squares, shared_begin() + 8 * kWarps);
  if (thread_index() != 0) return;
  const double loss = loss_sum * global_load(c.scalars + index_of(UpdateScalar::inverse_tokens)), norm = sqrt(squares);
  const double larger = c.limit < norm ? norm : c.limit;
  global_store(c.scalars + index_of(UpdateScalar::loss), loss);
  global_store(c.scalars + index_of(UpdateScalar::grad_norm), norm);
  global_store(c.scalars + index_of(UpdateScalar::grad_scale), c.limit > 0 ? c.limit / larger : 1.0);
  const bool applied =
      finite(loss) && finite(norm) && norm <= global_load(c.scalars + index_of(UpdateScalar::norm_limit));
  global_store(c.scalars + index_of(UpdateScalar::applied), applied ? 1.0 : 0.0);
}

struct Update {
  float *w, *m, *v;
  bf16* rounded;
  const float* g;
  const double* scalars;
  i64 n;
  float keep1, take1, keep2, take2, eps;
  double weight_decay;
};

// What the scalars in memory amount to: lr m^ / (sqrt(v^) + eps) with the bias corrections taken out of the loop.
struct alignas(16) Rates {
  float scale, rate, root, shrink;
};

template <int W>
XL_DEVICE void update(const Update& u, const Rates& r, i64 at) {
  float w[W], m[W], v[W], g[W];
  load_floats<W>(g, u.g + at);
  load_floats<W>(m, u.m + at);
  load_floats<W>(v, u.v + at);
  load_floats<W>(w, u.w + at);
  XL_UNROLL
  for (int j = 0; j < W; ++j) {
    const float grad = g[j] * r.scale;
    m[j] = u.keep1 * m[j] + u.take1 * grad;
    v[j] = u.keep2 * v[j] + u.take2 * grad * grad;
    w[j] = w[j] - (r.rate * m[j] / (sqrtf(v[j]) * r.root + u.eps) + r.shrink * w[j]);
  }
  store_floats<W>(u.m + at, m);
  store_floats<W>(u.v + at, v);
  store_floats<W>(u.w + at, w);
  if (u.rounded != nullptr) store_floats<W>(u.rounded + at, w);
}

// 28 bytes of an element, 30 with its rounded copy: each array once in every direction.
template <int W>
XL_KERNEL(kThreads, 4)
adamw_update(const Update u, i64 stride) {
  if (global_load(u.scalars + index_of(UpdateScalar::applied)) == 0) return;
  if (thread_index() == 0) {
    const double lr = global_load(u.scalars + index_of(UpdateScalar::lr));
    const double correction1 = global_load(u.scalars + index_of(UpdateScalar::correction1));
    const double correction2 = global_load(u.scalars + index_of(UpdateScalar::correction2));
    const double scale = global_load(u.scalars + index_of(UpdateScalar::grad_scale));
    shared_store(shared_begin(),
                 Rates{static_cast<float>(scale), static_cast<float>(lr / correction1),
                       static_cast<float>(1 / sqrt(correction2)), static_cast<float>(lr * u.weight_decay)});
  }
  sync_cta();
  const Rates rates = shared_load<Rates>(shared_begin());
  i64 at = (i64{block_index().x} * kThreads + thread_index()) * W;
  for (; at + W <= u.n; at += stride) update<W>(u, rates, at);
  for (; at < u.n && W > 1; ++at) update<1>(u, rates, at);  // of one thread: less than W
}

}  // namespace

void clip(Context& ctx, Tensor scalars, Tensor loss_sums, Tensor square_sums, double limit) {
  check_shape(scalars, 1, kUpdateScalars, DType::f64);
  check_shape(loss_sums, loss_sums.rows, 1, DType::f64);
  check_shape(square_sums, square_sums.rows, 1, DType::f64);
  launch(ctx, {.threads = kThreads, .shared_bytes = 2 * 8 * kWarps}, &clip_scalars,
         {scalars.row<double>(), rows_of<double>(loss_sums), rows_of<double>(square_sums), loss_sums.rows,
          square_sums.rows, limit});
}

void adamw(Context& ctx, Tensor w, Tensor rounded, Tensor m, Tensor v, Tensor g, Tensor scalars, AdamWConstants c) {
  for (const Tensor& t : {w, m, v, g}) check_shape(t, 1, w.cols, DType::f32);
  if (rounded.rows > 0) check_shape(rounded, 1, w.cols, DType::bf16);
  check_shape(scalars, 1, kUpdateScalars, DType::f64);
  const auto aligned = [](const Tensor& t, std::uintptr_t to) {
    return reinterpret_cast<std::uintptr_t>(t.data) % to == 0;
  };
  const bool wide = aligned(w, 16) && aligned(m, 16) && aligned(v, 16) && aligned(g, 16) && aligned(rounded, 8);
  const i64 per_block = i64{kThreads} * (wide ? 4 : 1);
  const i64 blocks = std::min((w.cols + per_block - 1) / per_block, i64{32} * ctx.gpu->info().multiprocessors);
  const Update u{w.row<float>(),
                 m.row<float>(),
                 v.row<float>(),
                 rounded.rows > 0 ? rounded.row<bf16>() : nullptr,
                 g.row<float>(),
                 scalars.row<double>(),
                 w.cols,
                 static_cast<float>(c.beta1),
                 static_cast<float>(1 - c.beta1),
                 static_cast<float>(c.beta2),
                 static_cast<float>(1 - c.beta2),
                 static_cast<float>(c.eps),
                 c.weight_decay};
  launch(ctx, {.x = blocks, .threads = kThreads, .shared_bytes = sizeof(Rates)},
         wide ? &adamw_update<4> : &adamw_update<1>, u, blocks * per_block);
}

}  // namespace xlstm::gpu
