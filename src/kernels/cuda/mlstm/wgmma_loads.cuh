#pragma once
// What one thread of the score warpgroup does besides: it keeps the copies going.
#include "kernels/cuda/mlstm/wgmma_layout.cuh"

namespace xlstm::mlstm {

// The CTAs of a cluster share x and w: each loads every so-manieth panel, for all.
template <int kDx, bool kNormalize>
XL_DEVICE void load_panels(const WgmmaScan& p, const TensorMap& map, BoxPlace at, int number, bool with_n, i64 head,
                           int chunk) {
  using L = WgmmaLayout<kDx, kNormalize>;
  const std::uint32_t full = L::tile_full(number);
  wait(L::tile_empty(number), L::tile_round(number) ^ 1);
  arrive_expecting(full, L::kPanels * (with_n ? L::kPanel : kPanelBytes));
  const int first = cluster_rank(), step = cluster_size();
  for (int panel = first; panel < L::kPanels; panel += step) {
    const std::uint32_t to = L::tile(number) + static_cast<std::uint32_t>(panel) * L::kPanel;
    const BoxPlace place{at.column + panel * 64, at.row, at.plane},
        n_place{panel * 64, chunk * 8, static_cast<int>(head)};
    if (step == 1) {
      load_box(to, map, place, full);
      if (with_n) load_box(to + kPanelBytes, p.n, n_place, full);
    } else {
      load_box_to_cluster(to, map, place, full);
      if (with_n) load_box_to_cluster(to + kPanelBytes, p.n, n_place, full);
    }
  }
}

template <int kDx, bool kNormalize>
XL_DEVICE void load_vectors_of(const Scan& s, i64 at, int i) {
  using L = WgmmaLayout<kDx, kNormalize>;
  const std::uint32_t full = L::u_full(i);
  load_bytes(L::vector(i, kReadVector), s.read + at, 256, full);
  load_bytes(L::vector(i, kWriteVector), s.write + at, 256, full);
  load_bytes(L::vector(i, kRowVector), s.row_exponent + at, 256, full);
  load_bytes(L::vector(i, kColumnVector), s.column_exponent + at, 256, full);
  load_bytes(L::vector(i, kSegmentVector), s.segment + at, 256, full);
  if (kNormalize) load_bytes(L::vector(i, kMaxVector), s.max + at, 256, full);
}

// Everything of the CTA's i-th chunk, as soon as its places are free. Those of u and of the vectors are when w of the
// chunk before the last is given back, which the tiles wait for: by then the state warpgroups are through with u, and
// had waited for P, behind which the score warpgroup is through with the vectors.
template <int kDx, Pass kPass, bool kNormalize>
XL_DEVICE void load_chunk(const WgmmaScan& p, i64 head, int i, const Walk& walk) {
  using L = WgmmaLayout<kDx, kNormalize>;
  const int heads = p.scan.shape.heads, chunk = walk.chunk<kPass>(walk.begin + i),
            column = static_cast<int>(head % heads);
  const BoxPlace x{column * kDx, chunk * kChunk, static_cast<int>(head / heads)};
  load_panels<kDx, kNormalize>(p, p.x, x, 2 * i, /*with_n=*/false, head, chunk);
  load_panels<kDx, kNormalize>(p, p.w, x, 2 * i + 1, kNormalize, head, chunk);
  arrive_expecting(L::u_full(i), L::kU + L::kStage);
  for (int panel = 0; panel < L::kSlicePanels; ++panel)
    load_box(L::u_tile(i) + static_cast<std::uint32_t>(panel) * kPanelBytes, p.u,
             {column * p.scan.du + slice_index() * L::kSlice + panel * 64, x.row, x.plane}, L::u_full(i));
  if (has_dots(kPass))
    for (int panel = 0; panel < L::kSlicePanels; ++panel)
      prefetch_box(p.dot_with, {column * p.scan.du + slice_index() * L::kSlice + panel * 64, x.row, x.plane});
  load_vectors_of<kDx, kNormalize>(p.scan, (head * walk.chunks + chunk) * kChunk, i);
}

}  // namespace xlstm::mlstm
