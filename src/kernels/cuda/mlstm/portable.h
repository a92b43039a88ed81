#pragma once
// How the portable scan is started.
#include "kernels/cuda/mlstm/chunkwise.h"
#include "kernels/cuda/mlstm/scan.cuh"

namespace xlstm::gpu {

struct PortableScans {
  Context& ctx;

  template <Pass kPass>
  void operator()(const Scan& s, const CellWorkspace&) const {
    const int width = scan_width(s.dx);
    const auto at_width = [&]<int kWidth>() {
      if (width == kWidth)
        launch(ctx,
               {.x = slices_of(s.du, width),
                .y = i64{s.shape.sequences} * s.shape.heads,
                .z = s.pieces,
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
};

}  // namespace xlstm::gpu
