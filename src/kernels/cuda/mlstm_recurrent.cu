// The recurrent kernel's four passes.
#include "kernels/cuda/launch.h"
#include "kernels/cuda/mlstm/call.h"
#include "kernels/cuda/mlstm/recurrent.cuh"

namespace xlstm::gpu {

using namespace mlstm;

namespace {

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

}  // namespace

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
  launch(ctx, {.x = call.heads(), .threads = 32}, &recurrent_gate_gradients,
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

}  // namespace xlstm::gpu
