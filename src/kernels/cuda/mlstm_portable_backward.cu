// The portable backward pass: dq, dk, dv and the gates.
#include "kernels/cuda/mlstm/portable.h"

namespace xlstm::gpu {

void portable_backward(Context& ctx, const Call& call, const CellInputs& din, Tensor dfirst, Tensor dh, Tensor dlast,
                       Tensor workspace) {
  check_workspace(workspace, CellWorkspace(call.shape, true, nullptr).floats);
  const CellWorkspace ws(call.shape, true, workspace.row<float>());
  const CellTensors t = tensors_of(call);
  const CellGradients d{.dh = matrix(dh),
                        .dq = matrix(din.q),
                        .dk = matrix(din.k),
                        .dv = matrix(din.v),
                        .dlog_i = column(din.log.i),
                        .dlog_f = column(din.log.f),
                        .dlast_c = floats(dlast),
                        .dfirst_c = floats(dfirst)};
  run_gate_vectors(ctx, call, t, ws, false);
  mlstm::Matrix scaled = d.dh;
  if (call.shape.normalize) {
    scaled = {ws.scaled_gradient, dh.cols};
    run_scale_gradient(ctx, {d.dh, scaled, t.denominator, call.shape});
  }
  run_scan<Pass::dq>(ctx, dq_scan(call.shape, t, d, ws, scaled));
  run_scan<Pass::dk>(ctx, dk_scan(call.shape, t, d, ws, scaled));
  run_scan<Pass::dv>(ctx, dv_scan(call.shape, t, d, ws, scaled));
  run_gate_gradients(ctx, gate_gradient_inputs(call.shape, t, d, ws));
}

}  // namespace xlstm::gpu
