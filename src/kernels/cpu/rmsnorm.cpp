// RMSNorm over the columns of each row.
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

// dx = rstd (w dy - x rstd^2 mean(w dy x)).  dw first: then dx may take the place of dy.
void rmsnorm_backward(Context&, Tensor dx, Tensor dw, Tensor dy, Tensor x, Tensor w, Tensor rstd) {
  const i64 D = x.cols;
  for (const Tensor& t : {dx, dy}) check_shape(t, x.rows, D, x.dtype);
  for (const Tensor& t : {dw, w}) check_shape(t, 1, D, x.dtype);
  check_shape(rstd, x.rows, 1, stat_type(x.dtype));
  with_float_type(x.dtype, [&]<class T>() {
    const RowsOf<T> din(dx), dout(dy), in(x), stat(rstd);
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
        store(din[r] + j, load(g + j, n) * load(weight + j, n) * Vec<T>(scale) - load(a + j, n) * along, n);
      });
    });
  });
}

}  // namespace xlstm::XL_CPU
