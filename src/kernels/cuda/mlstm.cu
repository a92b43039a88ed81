// The mLSTM cell: which kernels run, on what. The kernels are in mlstm/.
#include "kernels/cuda/launch.h"
#include "kernels/cuda/mlstm/cell_passes.h"
#include "kernels/cuda/mlstm/recurrent.cuh"
#include "kernels/ops.h"

namespace xlstm::gpu {

using namespace mlstm;

namespace {

mlstm::Shape shape_of(const CellDims& dims, const CellShape& s) {
  return {.sequences = static_cast<int>(s.sequences),
          .tokens = static_cast<int>(dims.tokens),
          .heads = static_cast<int>(s.heads),
          .qk_dim = static_cast<int>(dims.qk_dim),
          .v_dim = static_cast<int>(dims.v_dim),
          .normalize = s.normalize,
          .eps = static_cast<float>(s.eps)};
}

mlstm::Matrix matrix(const Tensor& t) { return {t.row<bf16>(), t.row_stride}; }
mlstm::Column column(const Tensor& t) {
  return t.rows == 0 ? mlstm::Column{} : mlstm::Column{t.row<float>(), t.row_stride};
}
float* floats(const Tensor& t) { return t.rows == 0 ? nullptr : t.row<float>(); }

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
    kernel = choose_cell_kernel(s.kernel, in.q.dtype, dims.qk_dim, dims.v_dim);
    if (!first.absent()) check_cell_state(first, dims, s, s.normalize);
    for (const Tensor& state : {first.c, first.n, first.m})
      XL_CHECK(state.dense(), "the rows of a state must lie one behind the other");
  }
  i64 heads() const { return i64{shape.sequences} * shape.heads; }
};

void check_workspace(const Tensor& workspace, i64 needed) {
  XL_CHECK(workspace.size() >= needed && workspace.dense(), "the cell's workspace holds {} floats of {}",
           workspace.size(), needed);
}

// ---- portable

CellTensors tensors_of(const Call& call) {
  return {.q = matrix(call.in.q),
          .k = matrix(call.in.k),
          .v = matrix(call.in.v),
          .h = {},
          .log_i = column(call.in.log.i),
          .log_f = column(call.in.log.f),
          .denominator = column(call.stats.denominator),
          .max = column(call.stats.max),
          .first_c = floats(call.first.c),
          .first_n = floats(call.first.n),
          .first_m = floats(call.first.m)};
}

template <Pass kPass>
void run_scan(Context& ctx, const Scan& s) {
  const int width = scan_width(s.dx);
  const auto at_width = [&]<int kWidth>() {
    if (width == kWidth)
      launch(ctx,
             {.x = slices_of(s.du, width),
              .y = i64{s.shape.sequences} * s.shape.heads,
              .threads = kThreads,
              .shared_bytes = static_cast<int>(ScanLayout<kWidth>::kBytes)},
             &scan<kWidth, kPass>, s);
  };
  at_width.template operator()<64>();
  at_width.template operator()<128>();
  at_width.template operator()<192>();
  at_width.template operator()<256>();
  at_width.template operator()<384>();
  at_width.template operator()<512>();
}

void run_gate_vectors(Context& ctx, const Call& call, const CellTensors& t, const CellWorkspace& ws, bool forward) {
  launch(ctx, {.y = call.heads(), .threads = kThreads, .shared_bytes = kGateBytes}, &gate_vectors,
         gate_inputs(call.shape, t, forward), ws.vectors);
}

void portable_forward(Context& ctx, const Call& call, Tensor h, const CellState& last, Tensor workspace) {
  check_workspace(workspace, CellWorkspace(call.shape, false, nullptr).floats);
  const CellWorkspace ws(call.shape, false, workspace.row<float>());
  CellTensors t = tensors_of(call);
  t.h = matrix(h);
  t.last_c = floats(last.c), t.last_n = floats(last.n), t.last_m = floats(last.m);
  run_gate_vectors(ctx, call, t, ws, true);
  run_scan<Pass::forward>(ctx, forward_scan(call.shape, t, ws));
}

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
    launch(ctx, {.x = (dh.rows + 7) / 8, .threads = kThreads}, &scale_gradient,
           ScaledGradient{d.dh, scaled, t.denominator, call.shape});
  }
  run_scan<Pass::dq>(ctx, dq_scan(call.shape, t, d, ws, scaled));
  run_scan<Pass::dk>(ctx, dk_scan(call.shape, t, d, ws, scaled));
  run_scan<Pass::dv>(ctx, dv_scan(call.shape, t, d, ws, scaled));
  launch(ctx,
         {.x = inner_anchors(call.shape.tokens) + 1,
          .y = call.heads(),
          .threads = kThreads,
          .shared_bytes = kGradientBytes},
         &gate_gradients, gate_gradient_inputs(call.shape, t, d, ws));
}

// ---- recurrent

template <class T>
Recurrent<T> recurrent_pass(const Call& call) {
  Recurrent<T> p;
  p.log_i = column(call.in.log.i), p.log_f = column(call.in.log.f);
  p.max = column(call.stats.max), p.denominator = column(call.stats.denominator);
  p.first_m = floats(call.first.m);
  p.shape = call.shape;
  return p;
}

template <class T, Pass kPass>
void run_recurrent(Context& ctx, const Recurrent<T>& p) {
  const i64 columns = recurrent_columns(kPass == Pass::forward && p.shape.normalize);
  launch(ctx,
         {.x = (p.du + columns - 1) / columns,
          .y = i64{p.shape.sequences} * p.shape.heads,
          .threads = kThreads,
          .shared_bytes = recurrent_bytes(p.dx)},
         &recurrent<T, kPass>, p);
}

void recurrent_forward(Context& ctx, const Call& call, Tensor h, const CellState& last) {
  with_gpu_type(h.dtype, [&]<class T>() {
    Recurrent<T> p = recurrent_pass<T>(call);
    p.x = rows_of<T>(call.in.q), p.w = rows_of<T>(call.in.k), p.u = rows_of<T>(call.in.v), p.y = rows_of<T>(h);
    p.dx = call.shape.qk_dim, p.du = call.shape.v_dim;
    p.first = floats(call.first.c), p.first_n = floats(call.first.n);
    p.last = floats(last.c), p.last_n = floats(last.n), p.last_m = floats(last.m);
    p.state_row = call.shape.v_dim, p.state_column = 1;
    run_recurrent<T, Pass::forward>(ctx, p);
  });
}

void recurrent_backward(Context& ctx, const Call& call, const CellInputs& din, Tensor dfirst, Tensor dh, Tensor dlast,
                        Tensor workspace) {
  check_workspace(workspace, RecurrentWorkspace(call.shape, true, nullptr).floats);
  const RecurrentWorkspace ws(call.shape, true, workspace.row<float>());
  const int qk = call.shape.qk_dim, v = call.shape.v_dim;
  with_gpu_type(dh.dtype, [&]<class T>() {
    const Rows<T> q = rows_of<T>(call.in.q), k = rows_of<T>(call.in.k), values = rows_of<T>(call.in.v),
                  gradient = rows_of<T>(dh);
    Recurrent<T> p = recurrent_pass<T>(call);  // of dq
    p.x = gradient, p.w = values, p.u = k, p.y = rows_of<T>(din.q);
    p.dx = v, p.du = qk, p.state_row = 1, p.state_column = v;
    p.first = floats(call.first.c);
    p.dot_with = q, p.dot = ws.dot_q;
    p.end_with = floats(dlast), p.end_dot = ws.end_dot;
    run_recurrent<T, Pass::dq>(ctx, p);

    p.x = values, p.w = gradient, p.u = q, p.y = rows_of<T>(din.k);
    p.first = floats(dlast), p.last = floats(dfirst);
    p.dot_with = k, p.dot = ws.dot_k;
    run_recurrent<T, Pass::dk>(ctx, p);

    p.x = k, p.w = q, p.u = gradient, p.y = rows_of<T>(din.v);
    p.dx = qk, p.du = v, p.state_row = v, p.state_column = 1;
    p.last = nullptr, p.dot = nullptr;
    run_recurrent<T, Pass::dv>(ctx, p);
  });
  launch(ctx, {.x = call.heads(), .threads = 32}, &recurrent_gate_gradients<>,
         RecurrentGateGradients{.dot_q = ws.dot_q,
                                .dot_k = ws.dot_k,
                                .end_dot = dlast.rows > 0 ? ws.end_dot : nullptr,
                                .tiles = ws.tiles,
                                .has_first = !call.first.absent(),
                                .log_f = column(call.in.log.f),
                                .dlog_i = column(din.log.i),
                                .dlog_f = column(din.log.f),
                                .shape = call.shape});
}

}  // namespace

void mlstm_forward(Context& ctx, Tensor h, CellStats stats, CellState last, CellInputs in, CellState first,
                   CellShape shape, Tensor workspace) {
  const Call call(in, stats, first, shape);
  if (call.kernel == CellKernel::portable)
    portable_forward(ctx, call, h, last, workspace);
  else
    recurrent_forward(ctx, call, h, last);
}

void mlstm_backward(Context& ctx, CellInputs din, CellState dfirst, Tensor dh, CellState dlast, CellInputs in,
                    CellStats stats, CellState first, CellShape shape, Tensor workspace) {
  const Call call(in, stats, first, shape);
  if (call.kernel == CellKernel::portable)
    portable_backward(ctx, call, din, dfirst.c, dh, dlast.c, workspace);
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
