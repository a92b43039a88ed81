// The mLSTM cell: which kernels run.
#include "kernels/cuda/mlstm/call.h"

namespace xlstm::gpu {

void mlstm_forward(Context& ctx, Tensor h, CellStats stats, CellState last, CellInputs in, CellState first,
                   CellShape shape, Tensor workspace) {
  const Call call(in, stats, first, shape);
  if (ctx.profile)
    ctx.profile->add_flops(ctx.op_class,
                           mlstm_forward_flops(shape, call.shape.tokens, call.shape.qk_dim, call.shape.v_dim));
  if (call.kernel == CellKernel::portable)
    portable_forward(ctx, call, h, last, workspace);
  else if (uses_wgmma(call.kernel))
    wgmma_forward(ctx, call, h, last, workspace);
  else
    recurrent_forward(ctx, call, h, last);
}

void mlstm_backward(Context& ctx, CellInputs din, CellState dfirst, Tensor dh, CellState dlast, CellInputs in,
                    CellStats stats, CellState first, CellShape shape, Tensor workspace) {
  const Call call(in, stats, first, shape);
  if (ctx.profile)
    ctx.profile->add_flops(ctx.op_class,
                           mlstm_backward_flops(shape, call.shape.tokens, call.shape.qk_dim, call.shape.v_dim));
  if (call.kernel == CellKernel::portable)
    portable_backward(ctx, call, din, dfirst.c, dh, dlast.c, workspace);
  else if (uses_wgmma(call.kernel))
    wgmma_backward(ctx, call, din, dfirst.c, dh, dlast.c, workspace);
  else
    recurrent_backward(ctx, call, din, dfirst.c, dh, dlast.c, workspace);
}

// c is replaced in place by the threads that read it; n and m, which every CTA of a head reads, only behind all of
// them.
void mlstm_step(Context& ctx, Tensor h, CellState state, CellInputs in, CellShape shape) {
  const Call call(in, {}, state, shape);
  CellState last{state.c, state.n, state.m};
  if (shape.normalize) {
    last.m.data = ctx.gpu->workspace;
    last.n.data = ctx.gpu->workspace + (state.m.bytes() + 255) / 256 * 256;
    XL_CHECK(state.m.bytes() + state.n.bytes() + 512 <= Gpu::kWorkspaceBytes, "{} states at once", call.heads());
  }
  recurrent_forward(ctx, call, h, last);
  if (!shape.normalize) return;
  gpu::copy(ctx, state.m, last.m);
  gpu::copy(ctx, state.n, last.n);
}

}  // namespace xlstm::gpu
