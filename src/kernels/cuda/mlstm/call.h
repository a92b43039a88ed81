#pragma once
// A call of the cell: what it is given, checked, and the kernels that can take it. One file per kernel and direction,
// so that they compile side by side.
#include "kernels/cuda/elements.cuh"
#include "kernels/cuda/mlstm/workspace.h"
#include "kernels/ops.h"

namespace xlstm::gpu {

inline mlstm::Shape shape_of(const CellDims& dims, const CellShape& s) {
  return {.sequences = static_cast<int>(s.sequences),
          .tokens = static_cast<int>(dims.tokens),
          .heads = static_cast<int>(s.heads),
          .qk_dim = static_cast<int>(dims.qk_dim),
          .v_dim = static_cast<int>(dims.v_dim),
          .normalize = s.normalize,
          .eps = static_cast<float>(s.eps)};
}

inline mlstm::Matrix matrix(const Tensor& t) { return {t.row<bf16>(), t.row_stride}; }
inline mlstm::Column column(const Tensor& t) {
  return t.rows == 0 ? mlstm::Column{} : mlstm::Column{t.row<float>(), t.row_stride};
}
inline float* floats(const Tensor& t) { return t.rows == 0 ? nullptr : t.row<float>(); }

// Everything that a call is given, with its sizes checked.
struct Call {
  CellInputs in;
  CellStats stats;
  CellState first;
  mlstm::Shape shape;
  CellKernel kernel;

  Call(const CellInputs& in_, const CellStats& stats_, const CellState& first_, const CellShape& s)
      : in(in_), stats(stats_), first(first_) {
    const CellDims dims = cell_dims(in, s);
    shape = shape_of(dims, s);
    kernel = choose_cell_kernel(s, in.q.dtype, dims.qk_dim, dims.v_dim);
    if (!first.absent()) check_cell_state(first, dims, s, s.normalize);
    for (const Tensor& state : {first.c, first.n, first.m})
      XL_CHECK(state.dense(), "the rows of a state must lie one behind the other");
  }
  i64 heads() const { return i64{shape.sequences} * shape.heads; }
};

inline void check_workspace(const Tensor& workspace, i64 needed) {
  XL_CHECK(workspace.size() >= needed && workspace.dense(), "the cell's workspace holds {} floats of {}",
           workspace.size(), needed);
}

void portable_forward(Context& ctx, const Call& call, Tensor h, const CellState& last, Tensor workspace);
void portable_backward(Context& ctx, const Call& call, const CellInputs& din, Tensor dfirst, Tensor dh, Tensor dlast,
                       Tensor workspace);
void wgmma_forward(Context& ctx, const Call& call, Tensor h, const CellState& last, Tensor workspace);
void wgmma_backward(Context& ctx, const Call& call, const CellInputs& din, Tensor dfirst, Tensor dh, Tensor dlast,
                    Tensor workspace);
void recurrent_forward(Context& ctx, const Call& call, Tensor h, const CellState& last);
void recurrent_backward(Context& ctx, const Call& call, const CellInputs& din, Tensor dfirst, Tensor dh, Tensor dlast,
                        Tensor workspace);

}  // namespace xlstm::gpu
