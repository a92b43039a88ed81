// The portable forward pass.
#include "kernels/cuda/mlstm/portable.h"

namespace xlstm::gpu {

void portable_forward(Context& ctx, const Call& call, Tensor h, const CellState& last, Tensor workspace) {
  chunkwise_forward(ctx, call, h, last, workspace, PortableScans{ctx});
}

}  // namespace xlstm::gpu
