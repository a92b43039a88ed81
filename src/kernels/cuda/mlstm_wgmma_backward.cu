// The backward pass with wgmma: dq, dk, dv and the gates.
#include "kernels/cuda/mlstm/wgmma.h"

namespace xlstm::gpu {

void wgmma_backward(Context& ctx, const Call& call, const CellInputs& din, Tensor dfirst, Tensor dh, Tensor dlast,
                    Tensor workspace) {
  chunkwise_backward(ctx, call, din, dfirst, dh, dlast, workspace, WgmmaScans{ctx, clustered(call)});
}

}  // namespace xlstm::gpu
