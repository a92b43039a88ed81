// The portable backward pass: dq, dk, dv and the gates.
#include "kernels/cuda/mlstm/portable.h"

namespace xlstm::gpu {

void portable_backward(Context& ctx, const Call& call, const CellInputs& din, Tensor dfirst, Tensor dh, Tensor dlast,
                       Tensor workspace) {
  chunkwise_backward(ctx, call, din, dfirst, dh, dlast, workspace, PortableScans{ctx});
}

}  // namespace xlstm::gpu
