#pragma once
// How the scan with wgmma is started.
#include "kernels/cuda/mlstm/chunkwise.h"
#include "kernels/cuda/mlstm/wgmma_scan.cuh"
#include "kernels/cuda/tensor_map.h"

namespace xlstm::gpu {

// All heads of x side by side: (sequences, tokens, heads * width).
inline BoxedTensor boxed(const mlstm::Matrix& x, const Shape& s, int width, int box_rows = 64) {
  return {.data = x.data,
          .columns = i64{s.heads} * width,
          .rows = s.tokens,
          .planes = s.sequences,
          .row_stride = x.stride,
          .plane_stride = s.tokens * x.stride,
          .box_rows = box_rows};
}

// n before every chunk, as eight rows of K.
inline BoxedTensor boxed_normalizer(const CellWorkspace& ws, const Shape& s) {
  const i64 rows = chunks_of(s.tokens) * 8;
  return {.data = ws.normalizer_rows,
          .columns = s.qk_dim,
          .rows = rows,
          .planes = i64{s.sequences} * s.heads,
          .row_stride = s.qk_dim,
          .plane_stride = rows * s.qk_dim,
          .box_rows = 8};
}

inline bool clustered(const Call& call) { return call.kernel != CellKernel::wgmma_no_cluster; }

struct WgmmaScans {
  Context& ctx;
  bool clusters = true;

  template <Pass kPass>
  void operator()(const Scan& s, const CellWorkspace& ws) const {
    if (s.shape.tokens == 0) return;
    const bool normalize = kPass == Pass::forward && s.shape.normalize;
    WgmmaScan p{.x = make_tensor_map(boxed(s.x, s.shape, s.dx)),
                .w = make_tensor_map(boxed(s.w, s.shape, s.dx)),
                .u = make_tensor_map(boxed(s.u, s.shape, s.du)),
                .y = make_tensor_map(boxed(s.y, s.shape, s.du, s.dx > 256 ? 32 : 64)),
                .n = {},
                .dot_with = {},
                .scan = s};
    if (has_dots(kPass)) p.dot_with = make_tensor_map(boxed(s.dot_with, s.shape, s.du));
    if (normalize) p.n = make_tensor_map(boxed_normalizer(ws, s.shape));
    const auto at_width = [&]<int kWidth>() {
      if (s.dx != kWidth) return;
      if constexpr (kPass == Pass::forward)
        if (normalize) return start<kWidth, kPass, true>(p);
      start<kWidth, kPass, false>(p);
    };
    at_width.template operator()<64>();
    at_width.template operator()<128>();
    at_width.template operator()<192>();
    at_width.template operator()<256>();
    if constexpr (kPass == Pass::dq || kPass == Pass::dk) {  // over v
      at_width.template operator()<384>();
      at_width.template operator()<512>();
    }
  }

 private:
  template <int kDx, Pass kPass, bool kNormalize>
  void start(const WgmmaScan& p) const {
    const auto kernel = &wgmma_scan<kDx, kPass, kNormalize>;
    LaunchShape shape{.x = slices_of(p.scan.du, kDx),
                      .y = i64{p.scan.shape.sequences} * p.scan.shape.heads,
                      .z = p.scan.pieces,
                      .threads = kWgmmaThreads,
                      .shared_bytes = static_cast<int>(WgmmaLayout<kDx, kNormalize>::kBytes)};
    if (clusters) shape.cluster = best_cluster(shape, kernel);
    launch(ctx, shape, kernel, p);
  }
};

}  // namespace xlstm::gpu
