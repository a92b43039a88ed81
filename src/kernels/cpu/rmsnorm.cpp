// RMSNorm over the columns of each row, and the pre-activations of gates behind it.
#include "kernels/cpu/rows.h"
#include "kernels/ops.h"

namespace xlstm::XL_CPU {

void rmsnorm_forward(Context&, Tensor y, Tensor rstd, Tensor x, Tensor w, double eps) {
  const i64 D = x.cols;
  check_shape(y, x.rows, D, x.dtype);
  check_shape(rstd, x.rows, 1, stat_type(x.dtype));
  check_shape(w, 1, D, x.dtype);
  with_float_type(x.dtype, [&]<class T>() {
    const RowsOf<T> out(y), stat(rstd), in(x);
    const T* const weight = w.row<T>();
    for_rows(x.rows, D, [&](i64 r) {
      const T* const a = in[r];
      Vec<T> squares(T(0));
      for_lanes<T>(D, [&](i64 j, i64 n) {
        const Vec<T> v = load(a + j, n);
        squares += v * v;
      });
      const T scale = 1 / std::sqrt(squares.sum() / T(D) + T(eps));
      stat[r][0] = scale;
      for_lanes<T>(D,
                   [&](i64 j, i64 n) { store(out[r] + j, load(a + j, n) * Vec<T>(scale) * load(weight + j, n), n); });
    });
  });
}

// dx = dresidual + rstd (w dy - x rstd^2 mean(w dy x)).  dw first: then dx may take the place of dy.
void rmsnorm_backward(Context&, Tensor dx, Tensor dw, Tensor dy, Tensor dresidual, Tensor x, Tensor w, Tensor rstd) {
  const i64 D = x.cols;
  const bool residual = dresidual.rows > 0;
  for (const Tensor& t : {dx, dy}) check_shape(t, x.rows, D, x.dtype);
  if (residual) check_shape(dresidual, x.rows, D, x.dtype);
  for (const Tensor& t : {dw, w}) check_shape(t, 1, D, x.dtype);
  check_shape(rstd, x.rows, 1, stat_type(x.dtype));
  with_float_type(x.dtype, [&]<class T>() {
    const RowsOf<T> din(dx), dout(dy), stream(residual ? dresidual : dy), in(x), stat(rstd);
    const T* const weight = w.row<T>();
    add_column_sums<T>(dw, x.rows, [&](i64 r, i64 j, i64 n) {
      return load(dout[r] + j, n) * load(in[r] + j, n) * Vec<T>(stat[r][0]);
    });
    for_rows(x.rows, D, [&](i64 r) {
      const T *const a = in[r], *const g = dout[r];
      Vec<T> dot(T(0));
      for_lanes<T>(D, [&](i64 j, i64 n) { dot += load(g + j, n) * load(weight + j, n) * load(a + j, n); });
      const T scale = stat[r][0];
      const Vec<T> along(scale * scale * scale * dot.sum() / T(D));
      for_lanes<T>(D, [&](i64 j, i64 n) {
        const Vec<T> d = load(g + j, n) * load(weight + j, n) * Vec<T>(scale) - load(a + j, n) * along;
        store(din[r] + j, residual ? d + load(stream[r] + j, n) : d, n);
      });
    });
  });
}

void rmsnorm_gates_forward(Context& ctx, Tensor y, Tensor rstd, Tensor pre, Tensor x, Tensor w, Tensor gates,
                           double eps) {
  rmsnorm_forward(ctx, y, rstd, x, w, eps);
  matmul(ctx, pre, y, gates, {.transpose_b = true});
}

// dx holds y for a while, then dy with what came through the gates.
void rmsnorm_gates_backward(Context& ctx, Tensor dx, Tensor dw, Tensor dgates, Tensor dy, Tensor dresidual, Tensor dpre,
                            Tensor x, Tensor w, Tensor gates, Tensor rstd) {
  check_shape(dx, x.rows, x.cols, x.dtype);
  check_shape(w, 1, x.cols, x.dtype);
  check_shape(rstd, x.rows, 1, stat_type(x.dtype));
  with_float_type(x.dtype, [&]<class T>() {
    const RowsOf<T> y(dx), in(x), stat(rstd);
    const T* const weight = w.row<T>();
    for_rows(x.rows, x.cols, [&](i64 r) {
      const Vec<T> scale(stat[r][0]);
      for_lanes<T>(x.cols, [&](i64 j, i64 n) { store(y[r] + j, load(in[r] + j, n) * scale * load(weight + j, n), n); });
    });
  });
  matmul(ctx, dgates, dpre, dx, {.transpose_a = true, .accumulate = true});
  matmul_add(ctx, dx, dy, dpre, gates, {});
  rmsnorm_backward(ctx, dx, dw, /*dy=*/dx, dresidual, x, w, rstd);
}

}  // namespace xlstm::XL_CPU
