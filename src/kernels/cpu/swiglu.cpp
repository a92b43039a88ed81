// SwiGLU: y = silu(gate) up.
#include "kernels/cpu/rows.h"
#include "kernels/ops.h"

namespace xlstm::XL_CPU {

void swiglu_forward(Context&, Tensor y, Tensor gate_up) {
  const i64 F = y.cols;
  check_shape(gate_up, y.rows, 2 * F, y.dtype);
  with_element_type(y.dtype, [&]<class E, class T>() {
    const RowsOf<E> out(y), in(gate_up);
    for_rows(y.rows, 2 * F, [&](i64 r) {
      const E *const gate = in[r], *const up = in[r] + F;
      for_lanes<T>(F, [&](i64 j, i64 n) {
        const Vec<T> g = load(gate + j, n);
        store(out[r] + j, g * sigmoid(g) * load(up + j, n), n);
      });
    });
  });
}

// silu'(g) = s (1 + g (1 - s)), s = sigmoid(g)
void swiglu_backward(Context&, Tensor dgate_up, Tensor dy, Tensor gate_up) {
  const i64 F = dy.cols;
  for (const Tensor& t : {dgate_up, gate_up}) check_shape(t, dy.rows, 2 * F, dy.dtype);
  with_element_type(dy.dtype, [&]<class E, class T>() {
    const RowsOf<E> din(dgate_up), dout(dy), in(gate_up);
    for_rows(dy.rows, 2 * F, [&](i64 r) {
      const E *const gate = in[r], *const up = in[r] + F;
      E *const dgate = din[r], *const dup = din[r] + F;
      for_lanes<T>(F, [&](i64 j, i64 n) {
        const Vec<T> one(T(1)), g = load(gate + j, n), u = load(up + j, n), d = load(dout[r] + j, n);
        const Vec<T> s = sigmoid(g), ds = d * s;
        store(dgate + j, ds * u * (one + g * (one - s)), n);
        store(dup + j, ds * g, n);
      });
    });
  });
}

}  // namespace xlstm::XL_CPU
