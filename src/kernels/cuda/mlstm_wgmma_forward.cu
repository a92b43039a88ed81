// The forward pass with wgmma.
#include "kernels/cuda/mlstm/normalizer_states.cuh"
#include "kernels/cuda/mlstm/wgmma.h"

namespace xlstm::gpu {

namespace {

void run_normalizer_states(Context& ctx, const Scan& s, const CellWorkspace& ws) {
  launch(ctx,
         {.x = s.shape.qk_dim / 64,
          .y = i64{s.shape.sequences} * s.shape.heads,
          .threads = kThreads,
          .shared_bytes = kNormalizerBytes},
         &normalizer_states,
         NormalizerStates{.k = s.w,
                          .write = s.write,
                          .decay = s.decay,
                          .first_n = s.first_n,
                          .last_n = s.last_n,
                          .rows = ws.normalizer_rows,
                          .shape = s.shape});
}

struct ForwardScans {
  Context& ctx;
  bool clusters;

  template <Pass kPass>
  void operator()(const Scan& s, const CellWorkspace& ws) const {
    if (s.shape.normalize) run_normalizer_states(ctx, s, ws);
    WgmmaScans{ctx, clusters}.operator()<kPass>(s, ws);
  }
};

}  // namespace

void wgmma_forward(Context& ctx, const Call& call, Tensor h, const CellState& last, Tensor workspace) {
  chunkwise_forward(ctx, call, h, last, workspace, ForwardScans{ctx, clustered(call)});
}

}  // namespace xlstm::gpu
