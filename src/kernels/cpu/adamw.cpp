// The end of an update: clipping, then one pass over weights, both moments and gradients.
#include "kernels/cpu/rows.h"
#include "kernels/ops.h"

namespace xlstm::XL_CPU {

namespace {

double total(const Tensor& column) {
  const RowsOf<double> x(column);
  double sum = 0;
  for (i64 r = 0; r < column.rows; ++r) sum += x[r][0];
  return sum;
}

class Scalars {
 public:
  explicit Scalars(const Tensor& t) : at_((check_shape(t, 1, kUpdateScalars, DType::f64), t.row<double>())) {}
  double& operator[](UpdateScalar s) const { return at_[static_cast<int>(s)]; }

 private:
  double* at_;
};

}  // namespace

void clip(Context&, Tensor scalars, Tensor loss_sums, Tensor square_sums, double limit) {
  const Scalars s(scalars);
  check_shape(loss_sums, loss_sums.rows, 1, DType::f64);
  check_shape(square_sums, square_sums.rows, 1, DType::f64);
  const double loss = s[UpdateScalar::loss] = total(loss_sums) * s[UpdateScalar::inverse_tokens];
  const double norm = s[UpdateScalar::grad_norm] = std::sqrt(total(square_sums));
  s[UpdateScalar::grad_scale] = limit > 0 ? limit / std::max(limit, norm) : 1;
  s[UpdateScalar::applied] = std::isfinite(loss) && std::isfinite(norm) && norm <= s[UpdateScalar::norm_limit];
}

void adamw(Context&, Tensor w, Tensor rounded, Tensor m, Tensor v, Tensor g, Tensor scalars, AdamWConstants c) {
  for (const Tensor& t : {m, v, g}) check_shape(t, 1, w.cols, w.dtype);
  const bool rounds = rounded.rows > 0;
  if (rounds) check_shape(rounded, 1, w.cols, DType::bf16);
  const Scalars s(scalars);
  if (s[UpdateScalar::applied] == 0) return;
  const double lr = s[UpdateScalar::lr];
  with_float_type(w.dtype, [&]<class T>() {
    T *const weight = w.row<T>(), *const first = m.row<T>(), *const second = v.row<T>();
    const T* const gradient = g.row<T>();
    bf16* const narrow = rounds ? rounded.row<bf16>() : nullptr;
    const Vec<T> scale{T(s[UpdateScalar::grad_scale])}, eps{T(c.eps)};
    const Vec<T> keep1{T(c.beta1)}, take1{T(1 - c.beta1)}, keep2{T(c.beta2)}, take2{T(1 - c.beta2)};
    // lr m^ / (sqrt(v^) + eps), with the bias corrections taken out of the loop
    const Vec<T> rate{T(lr / s[UpdateScalar::correction1])}, root{T(1 / std::sqrt(s[UpdateScalar::correction2]))};
    const Vec<T> shrink{T(lr * c.weight_decay)};
    parallel_blocks(w.cols, i64{1} << 14, [&](i64 begin, i64 end) {
      for_lanes<T>(end - begin, [&](i64 j, i64 n) {
        T *const pw = weight + begin + j, *const pm = first + begin + j, *const pv = second + begin + j;
        const Vec<T> grad = load(gradient + begin + j, n) * scale, old = load(pw, n);
        const Vec<T> m1 = keep1 * load(pm, n) + take1 * grad, v1 = keep2 * load(pv, n) + take2 * grad * grad;
        store(pm, m1, n);
        store(pv, v1, n);
        const Vec<T> next = old - (rate * m1 / (sqrt(v1) * root + eps) + shrink * old);
        store(pw, next, n);
        if constexpr (std::is_same_v<T, float>)
          if (rounds) store(narrow + begin + j, next, n);
      });
    });
  });
}

}  // namespace xlstm::XL_CPU
