// AdamW: one pass over weights, both moments and gradients.
#include "kernels/cpu/rows.h"
#include "kernels/ops.h"

namespace xlstm::XL_CPU {

void adamw(Context&, Tensor w, Tensor m, Tensor v, Tensor g, AdamWStep step) {
  for (const Tensor& t : {m, v, g}) check_shape(t, w.rows, w.cols, w.dtype);
  XL_CHECK(step.t >= 1, "steps count from 1, got {}", step.t);
  const double t = static_cast<double>(step.t);
  const double correction1 = 1 - std::pow(step.beta1, t), correction2 = 1 - std::pow(step.beta2, t);
  with_float_type(w.dtype, [&]<class T>() {
    const RowsOf<T> weight(w), first(m), second(v), gradient(g);
    const Vec<T> scale{T(step.grad_scale)}, eps{T(step.eps)};
    const Vec<T> keep1{T(step.beta1)}, take1{T(1 - step.beta1)}, keep2{T(step.beta2)}, take2{T(1 - step.beta2)};
    // lr m^ / (sqrt(v^) + eps), with the bias corrections taken out of the loop
    const Vec<T> rate{T(step.lr / correction1)}, root{T(1 / std::sqrt(correction2))};
    const Vec<T> shrink{T(step.lr * step.weight_decay)};
    const auto update = [&](i64 r, i64 j, i64 n) {
      T *const pw = weight[r] + j, *const pm = first[r] + j, *const pv = second[r] + j;
      const Vec<T> grad = load(gradient[r] + j, n) * scale, old = load(pw, n);
      const Vec<T> m1 = keep1 * load(pm, n) + take1 * grad, v1 = keep2 * load(pv, n) + take2 * grad * grad;
      store(pm, m1, n);
      store(pv, v1, n);
      store(pw, old - (rate * m1 / (sqrt(v1) * root + eps) + shrink * old), n);
    };
    for_spans(w.rows, w.cols, [&](i64 r, i64 begin, i64 end) {
      for_lanes<T>(end - begin, [&](i64 j, i64 n) { update(r, begin + j, n); });
    });
  });
}

}  // namespace xlstm::XL_CPU
