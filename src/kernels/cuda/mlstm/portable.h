#pragma once
// How the portable kernels are started.
#include "kernels/cuda/launch.h"
#include "kernels/cuda/mlstm/call.h"
#include "kernels/cuda/mlstm/cell_passes.h"
#include "kernels/cuda/mlstm/scan.cuh"

namespace xlstm::gpu {

using namespace mlstm;

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

// mlstm_gates.cu
void run_gate_vectors(Context& ctx, const Call& call, const CellTensors& t, const CellWorkspace& ws, bool forward);
void run_scale_gradient(Context& ctx, const ScaledGradient& s);
void run_gate_gradients(Context& ctx, const GateGradients& g);

}  // namespace xlstm::gpu
