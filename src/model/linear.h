#pragma once
// The two smallest layers. Layers are immutable structs of parameters; backward gets what forward got, plus dy and dx.
#include "core/params.h"
#include "kernels/ops.h"

namespace xlstm {

// y = x W^T
struct Linear {
  Param w;  // (out, in)

  void forward(Context& ctx, Tensor y, Tensor x) const { ops::matmul(ctx, y, x, w.value, {.transpose_b = true}); }
  // y = z + x W^T: the end of a residual branch.
  void forward_add(Context& ctx, Tensor y, Tensor z, Tensor x) const {
    ops::matmul_add(ctx, y, z, x, w.value, {.transpose_b = true});
  }
  void backward(Context& ctx, Tensor dx, Tensor dy, Tensor x, bool add_to_dx = false) const {
    ops::matmul(ctx, w.grad, dy, x, {.transpose_a = true, .accumulate = true});
    ops::matmul(ctx, dx, dy, w.value, {.accumulate = add_to_dx});
  }
};

// y = x rstd(x) w
struct RmsNorm {
  Param w;  // (1, D)
  double eps;

  RmsNorm(ParamStore& ps, const std::string& name, i64 dim, double eps_)
      : w(ps.add(name + ".weight", 1, dim, Init::ones(), /*decay=*/false, Use::exact)), eps(eps_) {}

  void forward(Context& ctx, Tensor y, Tensor rstd, Tensor x) const {
    const ClassScope in(ctx, OpClass::norms);
    ops::rmsnorm_forward(ctx, y, rstd, x, w.value, eps);
  }
  // dx = dresidual (may be absent) + the gradient through y
  void backward(Context& ctx, Tensor dx, Tensor dy, Tensor dresidual, Tensor x, Tensor rstd) const {
    const ClassScope in(ctx, OpClass::norms);
    ops::rmsnorm_backward(ctx, dx, w.grad, dy, dresidual, x, w.value, rstd);
  }

  // The same, with the pre-activations of the gates of the mixer behind it.
  void forward_with_gates(Context& ctx, Tensor y, Tensor rstd, Tensor pre, Tensor x, const Param& gates) const {
    const ClassScope in(ctx, OpClass::norms);
    ops::rmsnorm_gates_forward(ctx, y, rstd, pre, x, w.value, gates.value, eps);
  }
  void backward_with_gates(Context& ctx, Tensor dx, Tensor dy, Tensor dresidual, Tensor dpre, Tensor x, Tensor rstd,
                           const Param& gates) const {
    const ClassScope in(ctx, OpClass::norms);
    ops::rmsnorm_gates_backward(ctx, dx, w.grad, gates.grad, dy, dresidual, dpre, x, w.value, gates.value, rstd);
  }
};

}  // namespace xlstm
