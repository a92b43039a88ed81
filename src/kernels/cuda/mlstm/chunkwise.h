#pragma once
// The cell by scans over chunks, whichever kernel does them: vectors from the gates, the passes, the gates' gradients.
#include <utility>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/mlstm/call.h"
#include "kernels/cuda/mlstm/cell_passes.h"
#include "kernels/cuda/mlstm/scan_layout.cuh"

namespace xlstm::gpu {

using namespace mlstm;

// mlstm_gates.cu
void run_gate_vectors(Context& ctx, const Call& call, const CellTensors& t, const CellWorkspace& ws, bool forward);
void run_scale_gradient(Context& ctx, const ScaledGradient& s);
void run_gate_gradients(Context& ctx, const GateGradients& g);
// mlstm_pieces.cu: of the states of the forward pass, or of their gradients (dv)
template <Pass kPass>
void run_piece_states(Context& ctx, const Scan& s);

// Calls `at` with the width of x that the portable kernels are built for and that holds `dx`, as a template argument.
template <class At>
void at_scan_width(int dx, At&& at) {
  const auto call_if = [&]<int kWidth>() {
    if (scan_width(dx) == kWidth) at.template operator()<kWidth>();
  };
  [&]<int... kWidths>(std::integer_sequence<int, kWidths...>) { (call_if.template operator()<kWidths>(), ...); }
  (std::integer_sequence<int, 64, 128, 192, 256, 384, 512>{});
}

// Of a kernel of portable parts.
template <int kWidth>
LaunchShape scan_launch(const Scan& s, i64 pieces) {
  return {.x = slices_of(s.du, kWidth),
          .y = i64{s.shape.sequences} * s.shape.heads,
          .z = pieces,
          .threads = kThreads,
          .shared_bytes = static_cast<int>(ScanLayout<kWidth>::kBytes)};
}

inline CellTensors tensors_of(const Call& call) {
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

// `scan` is given the pass as a template argument; the scan's parameters, and the workspace.
template <class RunScan>
void chunkwise_forward(Context& ctx, const Call& call, Tensor h, const CellState& last, Tensor workspace,
                       RunScan&& scan) {
  check_workspace(workspace, CellWorkspace(call.shape, call.kernel, false, nullptr).floats);
  const CellWorkspace ws(call.shape, call.kernel, false, workspace.row<float>());
  CellTensors t = tensors_of(call);
  t.h = matrix(h);
  t.last_c = floats(last.c), t.last_n = floats(last.n), t.last_m = floats(last.m);
  run_gate_vectors(ctx, call, t, ws, true);
  const Scan forward = forward_scan(call.shape, t, ws);
  run_piece_states<Pass::forward>(ctx, forward);
  scan.template operator()<Pass::forward>(forward, ws);
}

template <class RunScan>
void chunkwise_backward(Context& ctx, const Call& call, const CellInputs& din, Tensor dfirst, Tensor dh, Tensor dlast,
                        Tensor workspace, RunScan&& scan) {
  check_workspace(workspace, CellWorkspace(call.shape, call.kernel, true, nullptr).floats);
  const CellWorkspace ws(call.shape, call.kernel, true, workspace.row<float>());
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
    run_scale_gradient(ctx, {d.dh, scaled, t.denominator, call.shape});
  }
  run_piece_states<Pass::forward>(ctx, forward_scan(call.shape, t, ws));
  run_piece_states<Pass::dv>(ctx, dv_scan(call.shape, t, d, ws, scaled));
  scan.template operator()<Pass::dq>(dq_scan(call.shape, t, d, ws, scaled), ws);
  scan.template operator()<Pass::dk>(dk_scan(call.shape, t, d, ws, scaled), ws);
  scan.template operator()<Pass::dv>(dv_scan(call.shape, t, d, ws, scaled), ws);
  run_gate_gradients(ctx, gate_gradient_inputs(call.shape, t, d, ws));
}

}  // namespace xlstm::gpu
