#include "kernels/cell.h"

#include <algorithm>

#include "kernels/cuda/mlstm/workspace.h"
#include "kernels/mlstm_workspace.h"

namespace xlstm {

i64 mlstm_workspace_elements(Device device, DType type, const CellShape& shape, i64 tokens, i64 qk_dim, i64 v_dim,
                             int threads, bool backward) {
  if (device == Device::cpu) {
    const auto slice = [&](bool tiles) { return MlstmWorkspace(shape, tokens, qk_dim, v_dim, backward, tiles).total; };
    return threads * (type == DType::bf16 ? std::max(slice(false), slice(true)) : slice(false));
  }
  const mlstm::Shape s{.sequences = static_cast<int>(shape.sequences),
                       .tokens = static_cast<int>(tokens),
                       .heads = static_cast<int>(shape.heads),
                       .qk_dim = static_cast<int>(qk_dim),
                       .v_dim = static_cast<int>(v_dim),
                       .normalize = shape.normalize};
  const CellKernel kernel = choose_cell_kernel(shape, type, qk_dim, v_dim);
  return kernel == CellKernel::recurrent ? mlstm::RecurrentWorkspace(s, backward, nullptr).floats
                                         : mlstm::CellWorkspace(s, kernel, backward, nullptr).floats;
}

CellKernel choose_cell_kernel(const CellShape& shape, DType type, i64 qk_dim, i64 v_dim) {
  const CellKernel wanted = shape.kernel;
  const bool portable = mlstm::portable_kernel_fits(type, qk_dim, v_dim, shape.shared_bytes);
  const bool wgmma = mlstm::wgmma_kernel_fits(type, qk_dim, v_dim, shape.shared_bytes, shape.architecture);
  if (uses_wgmma(wanted) && !wgmma)
    throw user_error(
        "run.cell_kernel: {} takes an H100 or H200, bf16, and heads of 64, 128, 192 or 256 for q and k, for v also "
        "384 or 512, not compute capability {}.{}, {} and heads of {} and {}; use auto",
        names_of(wanted)[static_cast<std::size_t>(wanted)], shape.architecture / 10, shape.architecture % 10,
        name_of(type), qk_dim, v_dim);
  if (wanted == CellKernel::portable && !portable)
    throw user_error(
        "run.cell_kernel: portable takes bf16 and heads up to 512 wide (less on GPUs with little shared memory) in "
        "multiples of 8, not {} and heads of {} and {}; use auto",
        name_of(type), qk_dim, v_dim);
  const CellKernel chosen = wanted != CellKernel::automatic ? wanted
                            : wgmma                         ? CellKernel::wgmma
                            : portable                      ? CellKernel::portable
                                                            : CellKernel::recurrent;
  if (chosen == CellKernel::recurrent && std::max(qk_dim, v_dim) > mlstm::kWidestRecurrentHead)
    throw user_error("no CUDA kernel for heads of {} and {}: at most {}; use more heads (model.mixer.num_heads)",
                     qk_dim, v_dim, mlstm::kWidestRecurrentHead);
  return chosen;
}

CellDims cell_dims(const CellInputs& in, const CellShape& shape) {
  XL_CHECK(shape.sequences > 0 && shape.heads > 0 && shape.chunk > 0, "sequences, heads and chunk must be positive");
  const i64 rows = in.q.rows, heads = shape.heads;
  XL_CHECK(rows % shape.sequences == 0, "{} rows are not {} equal sequences", rows, shape.sequences);
  XL_CHECK(in.k.rows == rows && in.v.rows == rows && in.log.i.rows == rows && in.log.f.rows == rows,
           "q has {} rows, k {}, v {}, log.i {}, log.f {}", rows, in.k.rows, in.v.rows, in.log.i.rows, in.log.f.rows);
  XL_CHECK(in.q.cols % heads == 0 && in.k.cols == in.q.cols && in.v.cols % heads == 0,
           "widths of q, k, v are {}, {}, {} for {} heads", in.q.cols, in.k.cols, in.v.cols, heads);
  XL_CHECK(in.log.i.cols == heads && in.log.f.cols == heads, "gates have {} and {} columns for {} heads", in.log.i.cols,
           in.log.f.cols, heads);
  return {rows / shape.sequences, in.q.cols / heads, in.v.cols / heads};
}

void check_cell_state(const CellState& state, const CellDims& dims, const CellShape& shape, bool with_normalizer) {
  const i64 tasks = shape.sequences * shape.heads;
  XL_CHECK(state.c.rows == tasks * dims.qk_dim && state.c.cols == dims.v_dim, "state.c is ({}, {}), expected ({}, {})",
           state.c.rows, state.c.cols, tasks * dims.qk_dim, dims.v_dim);
  if (!with_normalizer) return;
  XL_CHECK(state.n.rows == tasks && state.n.cols == dims.qk_dim && state.m.rows == tasks && state.m.cols == 1,
           "state.n is ({}, {}) and state.m ({}, {}), expected ({}, {}) and ({}, 1)", state.n.rows, state.n.cols,
           state.m.rows, state.m.cols, tasks, dims.qk_dim, tasks);
}

namespace {

// within: columns of products inside a chunk; states: products with the (K, V) state; per token and head
double cell_flops(const CellShape& shape, i64 tokens, double within, double states) {
  const double chunk = static_cast<double>(std::min(shape.chunk, tokens));
  return static_cast<double>(shape.sequences * shape.heads * tokens) * ((chunk + 1) * within + 2 * states);
}

}  // namespace

// scores and values; read-out and update
double mlstm_forward_flops(const CellShape& shape, i64 tokens, i64 qk_dim, i64 v_dim) {
  const auto k = static_cast<double>(qk_dim), v = static_cast<double>(v_dim);
  return cell_flops(shape, tokens, k + v, 2 * k * v);
}

// scores, their gradient, dq, dk, dv; the same three from the states, dC, and C once more (not: once more again, as for
// chunks before the last group)
double mlstm_backward_flops(const CellShape& shape, i64 tokens, i64 qk_dim, i64 v_dim) {
  const auto k = static_cast<double>(qk_dim), v = static_cast<double>(v_dim);
  return cell_flops(shape, tokens, 3 * k + 2 * v, 5 * k * v);
}

}  // namespace xlstm
