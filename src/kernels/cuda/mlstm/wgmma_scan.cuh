#pragma once
// The scan on sm_90a: as scan.cuh, with the work shared out between warpgroups. The first multiplies scores and keeps
// the copies going, one chunk ahead; the other two hold the state.
#include "kernels/cuda/mlstm/wgmma_rows.cuh"
#include "kernels/cuda/mlstm/wgmma_scores.cuh"

namespace xlstm::mlstm {

template <int kDx, Pass kPass, bool kNormalize>
XL_DEVICE void state_warpgroup(const WgmmaScan& p, i64 head, const Walk& walk) {
  using L = WgmmaLayout<kDx, kNormalize>;
  const Scan& s = p.scan;
  const int group = warpgroup_index() - 1;
  const StatePlace<kDx> at{L::kParts == 1 ? group : 0, L::kParts == 1 ? 0 : group};
  const std::uint32_t panels = static_cast<std::uint32_t>(at.part) * (L::kPart / 64) * L::kPanel,
                      strip = static_cast<std::uint32_t>(at.strip) * kPanelBytes;
  const float* const decays = s.decay + head * walk.chunks;
  const int count = walk.end - walk.begin;
  const i64 ends = inner_anchors(s.shape.tokens);

  float c[L::kPart / 2];
  fill_state<kDx>(c, s, at, first_of(s, walk.piece), head);
  if (kPass == Pass::dk && s.end_anchor && walk.piece == 0) multiply_anchor<kDx>(c, s, at, ends, head);
  float next_decay = count > 0 ? global_load(decays + walk.chunk<kPass>(walk.begin)) : 0.f;
  for (int i = 0; i < count; ++i) {
    const int chunk = walk.chunk<kPass>(walk.begin + i);
    const bool at_anchor = s.anchors && chunk > 0 && chunk % kAnchorChunks == 0;
    if (kPass == Pass::dq && at_anchor) keep_anchor<kDx>(c, s, chunk / kAnchorChunks - 1, head);
    const float decay = next_decay;
    if (i + 1 < count) next_decay = global_load(decays + walk.chunk<kPass>(walk.begin + i + 1));

    float y[32];
    std::uint32_t packed[2][4], u[4][4];
    wait(L::tile_full(2 * i), L::tile_round(2 * i));
    start_read_out<L::kPart, L::kPanel>(y, packed, c, L::tile(2 * i) + panels);
    XL_UNROLL
    for (int j = 0; j < L::kPart / 2; ++j) c[j] *= decay;
    wait(L::u_full(i), L::u_round(i));
    load_weighted(u, L::u_tile(i) + strip, L::vector(i, kWriteVector));
    wait(L::tile_full(2 * i + 1), L::tile_round(2 * i + 1));
    start_update<L::kPart, L::kPanel>(c, u, L::tile(2 * i + 1) + panels);
    wgmma_wait<1>();
    settled(y);
    arrive_in_cluster(L::tile_empty(2 * i));

    if constexpr (L::kParts == 2) {
      float half[16];
      share_rows(half, y, at.part, shared_begin() + L::out);
      finish_rows<kDx, kPass, kNormalize>(p, half, c, at, head, i, chunk * kChunk);
    } else {
      finish_rows<kDx, kPass, kNormalize>(p, y, c, at, head, i, chunk * kChunk);
    }
    if (kPass == Pass::dk && at_anchor) multiply_anchor<kDx>(c, s, at, chunk / kAnchorChunks - 1, head);
  }
  if (warpgroup_thread() == 0) wait_stores<0>();
  sync_warp();
  if (walk.piece + 1 < s.pieces) return;
  if (kPass == Pass::dq && s.end_anchor) keep_anchor<kDx>(c, s, ends, head);
  if (s.last) store_state<kDx>(c, s, at, head);
}

// grid: (slices of u, B H, pieces), clusters along the slices; kWgmmaThreads threads; WgmmaLayout::kBytes of shared
// memory
template <int kDx, Pass kPass, bool kNormalize>
XL_KERNEL(kWgmmaThreads, 1)
wgmma_scan(const XL_GRID_CONSTANT WgmmaScan p) {
  const i64 head = block_index().y;
  const Walk walk(p.scan);
  WgmmaLayout<kDx, kNormalize>::make_barriers();
  sync_cluster();
  if (warpgroup_index() == 0) {
    give_registers<WgmmaLayout<kDx, kNormalize>::kScoreRegisters>();
    score_warpgroup<kDx, kPass, kNormalize>(p, head, walk);
  } else {
    take_registers<WgmmaLayout<kDx, kNormalize>::kStateRegisters>();
    state_warpgroup<kDx, kPass, kNormalize>(p, head, walk);
  }
  sync_cluster();  // nobody leaves while others may still send to it
}

}  // namespace xlstm::mlstm
