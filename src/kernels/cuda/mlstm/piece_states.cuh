#pragma once
// Few heads do not fill a device. So a scan is cut into pieces that run side by side, each from its own state; and the
// states come from here: what every piece but the last adds, then a sum over the pieces. In parts of portable scans,
// whichever kernel does the rest.
#include "kernels/cuda/mlstm/scan_scores.cuh"
#include "kernels/cuda/mlstm/scan_state.cuh"

namespace xlstm::mlstm {

// grid: (slices of u, B H, pieces - 1). The state behind a piece that begins with none, but for the first. Of s,
// only w, u and what becomes of the state are used.
template <int kDx, Pass kPass>
XL_KERNEL(kThreads, 1)
piece_states(const Scan s) {
  using L = ScanLayout<kDx>;
  const bool normalize = kPass == Pass::forward && s.piece_n;
  const i64 head = block_index().y, heads = static_cast<i64>(s.shape.sequences) * s.shape.heads;
  const Walk walk(s);
  const bf16 *const w = head_begin(s, s.w, head, s.dx), *const u = head_begin(s, s.u, head, s.du);
  WarpState<kDx> state;
  state.strip = warp_index() % L::kStrips;
  state.part = warp_index() / L::kStrips;
  state.fill(s, walk.piece == 0 ? s.first : nullptr, head);
  if (normalize) fill_normalizer<kDx>(s, walk.piece == 0 ? s.first_n : nullptr, head);
  for (int i = walk.begin; i < walk.end; ++i) {
    const int chunk = walk.chunk<kPass>(i), first = chunk * kChunk;
    sync_cta();
    load_tile<kDx>(L::w(), w, s.w.stride, s.dx, 0, first, s.shape.tokens);
    load_tile<L::kSlice>(L::u(), u, s.u.stride, s.du, static_cast<int>(block_index().x) * L::kSlice, first,
                         s.shape.tokens);
    commit_copies();
    load_vectors<kDx>(s, head, first);
    wait_copies<0>();
    sync_cta();
    const float decay = global_load(s.decay + head * walk.chunks + chunk);
    float none[8][4];
    state.template add_chunk<false>(none, decay);
    if (normalize && block_index().x == 0) update_normalizer<kDx>(decay);
  }
  state.store(s, s.piece_c + walk.piece * heads * s.shape.qk_dim * s.shape.v_dim, head);
  if (!normalize || block_index().x != 0) return;
  sync_cta();
  store_normalizer<kDx>(s, s.piece_n + walk.piece * heads * s.dx, head);
}

struct PieceSum {
  float* states = nullptr;  // (pieces - 1, B H, size): of each piece; then with all before it
  const float* decay = nullptr;
  i64 size = 0, heads = 0;
  int chunks = 0, pieces = 0;
  bool reverse = false;
};

constexpr int kPieceSumBytes = kMostPieces * 4;

// grid: (ceil(size / kThreads), B H); kThreads threads; kPieceSumBytes of shared memory
XL_KERNEL(kThreads, 1)
add_piece_states(const PieceSum s) {
  const i64 head = block_index().y, at = block_index().x * i64{kThreads} + thread_index();
  const int each = static_cast<int>(piece_chunks(s.chunks, s.pieces)), piece = thread_index();
  const auto place = [](int i) { return shared_begin() + static_cast<std::uint32_t>(i) * 4; };
  if (piece < s.pieces - 1) {
    float decay = 1;
    for (int i = piece * each; i < (piece + 1) * each && i < s.chunks; ++i)
      decay *= global_load(s.decay + head * s.chunks + (s.reverse ? s.chunks - 1 - i : i));
    shared_store(place(piece), decay);
  }
  sync_cta();
  if (at >= s.size) return;
  float* const mine = s.states + head * s.size + at;
  float sum = global_load(mine);
  for (int i = 1; i < s.pieces - 1; ++i) {
    float* const to = mine + i * s.heads * s.size;
    sum = shared_load<float>(place(i)) * sum + global_load(to);
    global_store(to, sum);
  }
}

}  // namespace xlstm::mlstm
