#pragma once
// How the portable scan is started.
#include "kernels/cuda/mlstm/chunkwise.h"
#include "kernels/cuda/mlstm/scan.cuh"

namespace xlstm::gpu {

struct PortableScans {
  Context& ctx;

  template <Pass kPass>
  void operator()(const Scan& s, const CellWorkspace&) const {
    at_scan_width(s.dx, [&]<int kWidth>() { launch(ctx, scan_launch<kWidth>(s, s.pieces), &scan<kWidth, kPass>, s); });
  }
};

}  // namespace xlstm::gpu
