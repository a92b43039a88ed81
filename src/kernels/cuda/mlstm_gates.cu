// What the passes need around the scans: vectors from the gates, dh', and the gates' gradients.
#include "kernels/cuda/mlstm/chunkwise.h"
#include "kernels/cuda/mlstm/gate_gradients.cuh"
#include "kernels/cuda/mlstm/gate_vectors.cuh"

namespace xlstm::gpu {

void run_gate_vectors(Context& ctx, const Call& call, const CellTensors& t, const CellWorkspace& ws, bool forward) {
  launch(ctx, {.y = call.heads(), .threads = kGateThreads, .shared_bytes = kGateBytes}, &gate_vectors,
         gate_inputs(call.shape, t, forward), ws.vectors);
}

void run_scale_gradient(Context& ctx, const ScaledGradient& s) {
  const i64 rows = i64{s.shape.sequences} * s.shape.tokens;
  launch(ctx, {.x = (rows + 7) / 8, .threads = kThreads}, &scale_gradient, s);
}

void run_gate_gradients(Context& ctx, const GateGradients& g) {
  launch(ctx,
         {.x = inner_anchors(g.shape.tokens) + 1,
          .y = i64{g.shape.sequences} * g.shape.heads,
          .threads = kThreads,
          .shared_bytes = kGradientBytes},
         &gate_gradients, g);
}

}  // namespace xlstm::gpu
