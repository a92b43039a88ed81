// The portable forward pass.
#include "kernels/cuda/mlstm/portable.h"

namespace xlstm::gpu {

void portable_forward(Context& ctx, const Call& call, Tensor h, const CellState& last, Tensor workspace) {
  check_workspace(workspace, CellWorkspace(call.shape, false, nullptr).floats);
  const CellWorkspace ws(call.shape, false, workspace.row<float>());
  CellTensors t = tensors_of(call);
  t.h = matrix(h);
  t.last_c = floats(last.c), t.last_n = floats(last.n), t.last_m = floats(last.m);
  run_gate_vectors(ctx, call, t, ws, true);
  run_scan<Pass::forward>(ctx, forward_scan(call.shape, t, ws));
}

}  // namespace xlstm::gpu
