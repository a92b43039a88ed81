#pragma once
// The portable scan (sm_80 and newer): one CTA walks over the whole sequence of one head with a slice of the state in
// registers, as f32 accumulators of mma.sync. The state never goes to memory; what is read is x, w and u, what is
// written is y. One kernel, four uses: forward, dq, dk, dv (parameters.h).
//
// Warps: kStrips strips of 16 columns of u times kParts parts of the columns of x. Transposed throughout: a warp holds
// S^T (16 of du) x (kPartWidth of dx), so that S^T is the left operand of y^T = S^T x^T straight from its registers.
#include "kernels/cuda/mlstm/scan_scores.cuh"
#include "kernels/cuda/mlstm/scan_state.cuh"

namespace xlstm::mlstm {

using namespace dialect;

// --- y: from the fragments of y^T to rows in shared memory, and on

// Through the place of u, which the caller knows to be free. Pairs of columns are brought together by a shuffle.
template <int kDx>
XL_DEVICE void stage_rows(const float (&y)[8][4], int strip) {
  using L = ScanLayout<kDx>;
  const int lane = lane_index();
  const bool odd = (lane & 4) != 0;
  XL_UNROLL
  for (int n = 0; n < 8; ++n) {
    XL_UNROLL
    for (int upper = 0; upper < 2; ++upper) {
      const float mine = odd ? y[n][2 * upper + 1] : y[n][2 * upper];
      const float other = shuffle_xor(odd ? y[n][2 * upper] : y[n][2 * upper + 1], 4);
      const int token = n * 8 + (lane & 3) * 2 + (odd ? 1 : 0), pair = (lane / 4) / 2;
      shared_store(tile_address(L::u(), token, strip * 2 + upper) + static_cast<std::uint32_t>(pair) * 4,
                   odd ? pack_bf16(other, mine) : pack_bf16(mine, other));
    }
  }
}

template <int kDx>
XL_DEVICE void store_rows(const Scan& s, bf16* head, int first) {
  using L = ScanLayout<kDx>;
  constexpr int kPieces = L::kSlice / 8;
  XL_ROLLED
  for (int i = thread_index(); i < kChunk * kPieces; i += kThreads) {
    const int row = i / kPieces, piece = i % kPieces,
              column = static_cast<int>(block_index().x) * L::kSlice + piece * 8;
    if (first + row >= s.shape.tokens || column >= s.du) continue;
    global_store(reinterpret_cast<Piece*>(head + (first + row) * s.y.stride + column),
                 shared_load<Piece>(tile_address(L::u(), row, piece)));
  }
}

// Row sums of y and s.dot_with over this strip, from the f32 values.
template <int kDx>
XL_DEVICE void row_dots(const Scan& s, const float (&y)[8][4], const WarpState<kDx>& state, const bf16* head,
                        int first) {
  using L = ScanLayout<kDx>;
  const int lane = lane_index(), column = static_cast<int>(block_index().x) * L::kSlice + state.column(0);
  const bf16* row = head + (first + (lane & 3) * 2) * s.dot_with.stride + column;
  XL_UNROLL
  for (int n = 0; n < 8; ++n, row += 8 * s.dot_with.stride) {
    XL_UNROLL
    for (int odd = 0; odd < 2; ++odd) {
      const int token = n * 8 + (lane & 3) * 2 + odd;
      float sum = 0;
      XL_UNROLL
      for (int upper = 0; upper < 2; ++upper) {
        if (first + token < s.shape.tokens && column + 8 * upper < s.du)
          sum += y[n][2 * upper + odd] * to_float(global_load(row + odd * s.dot_with.stride + 8 * upper));
      }
      sum += shuffle_xor(sum, 4);
      sum += shuffle_xor(sum, 8);
      sum += shuffle_xor(sum, 16);
      if (lane < 4) shared_store(L::dots() + static_cast<std::uint32_t>(state.strip * 64 + token) * 4, sum);
    }
  }
}

template <int kDx>
XL_DEVICE void store_dots(const Scan& s, i64 head, i64 heads, i64 first) {
  using L = ScanLayout<kDx>;
  const int t = thread_index();
  if (t >= kChunk) return;
  float sum = 0;
  for (int strip = 0; strip < L::kStrips; ++strip) sum += vector_at(L::dots(), strip * 64 + t);
  const i64 padded = chunks_of(s.shape.tokens) * kChunk;
  global_store(s.dot + (block_index().x * heads + head) * padded + first + t, sum);
}

// --- the pass

template <int kDx>
XL_DEVICE void add_other_part(float (&y)[8][4], const WarpState<kDx>& state, bool store) {
  using L = ScanLayout<kDx>;
  XL_UNROLL
  for (int n = 0; n < 8; ++n) {
    XL_UNROLL
    for (int j = 0; j < 4; ++j) {
      const std::uint32_t at =
          L::partial() + static_cast<std::uint32_t>(((state.strip * 8 + n) * 4 + j) * 32 + lane_index()) * 4;
      if (store)
        shared_store(at, y[n][j]);
      else
        y[n][j] += shared_load<float>(at);
    }
  }
}

// y^T's columns times one of the vectors
XL_DEVICE void scale_tokens(float (&y)[8][4], std::uint32_t vector) {
  XL_UNROLL
  for (int n = 0; n < 8; ++n) {
    XL_UNROLL
    for (int j = 0; j < 4; ++j) y[n][j] *= vector_at(vector, n * 8 + (lane_index() & 3) * 2 + (j & 1));
  }
}

// grid: (slices of u, B H, pieces); kThreads threads; ScanLayout<kDx>::kBytes of shared memory
template <int kDx, Pass kPass>
XL_KERNEL(kThreads, 1)
scan(const Scan s) {
  using L = ScanLayout<kDx>;
  const bool normalize = kPass == Pass::forward && s.shape.normalize;
  const i64 head = block_index().y;
  const Walk walk(s);
  const bf16 *x = head_begin(s, s.x, head, s.dx), *w = head_begin(s, s.w, head, s.dx),
             *u = head_begin(s, s.u, head, s.du);
  bf16* const y_rows = head_begin(s, s.y, head, s.du);

  WarpState<kDx> state;
  state.strip = warp_index() % L::kStrips;
  state.part = warp_index() / L::kStrips;
  state.fill(s, first_of(s, walk.piece), head);
  if (normalize) fill_normalizer<kDx>(s, first_n_of(s, walk.piece), head);
  if (kPass == Pass::dk && s.end_anchor && walk.piece == 0)
    dot_anchor<kDx>(s, state, inner_anchors(s.shape.tokens), head);

  for (int i = walk.begin; i < walk.end; ++i) {
    const int chunk = walk.chunk<kPass>(i), first = chunk * kChunk;
    const bool at_anchor = s.anchors && chunk > 0 && chunk % kAnchorChunks == 0;
    if (kPass == Pass::dq && at_anchor) store_anchor<kDx>(s, state, chunk / kAnchorChunks - 1, head);

    // No barrier: the last to read a tile was store_rows, by the very threads that now load over what they read.
    load_tile<kDx>(L::x(), x, s.x.stride, s.dx, 0, first, s.shape.tokens);
    load_tile<kDx>(L::w(), w, s.w.stride, s.dx, 0, first, s.shape.tokens);
    load_tile<L::kSlice>(L::u(), u, s.u.stride, s.du, static_cast<int>(block_index().x) * L::kSlice, first,
                         s.shape.tokens);
    commit_copies();
    load_vectors<kDx>(s, head, first);
    wait_copies<0>();
    sync_cta();

    compute_scores<kDx, in_reverse(kPass)>(normalize);
    if (normalize) query_normalizer<kDx>();
    float y[8][4] = {};
    state.read_out(y);
    if (L::kParts == 2) sync_cta();  // x has been read by all
    if (state.part == 1) add_other_part<kDx>(y, state, /*store=*/true);
    sync_cta();

    if (L::kParts == 2 && state.part == 0) add_other_part<kDx>(y, state, /*store=*/false);
    scale_tokens(y, L::read());
    const float decay = global_load(s.decay + head * walk.chunks + chunk);
    if (normalize) {
      compute_inverse<kDx>(s, head, first);
      update_normalizer<kDx>(decay);
    }
    state.template add_chunk<true>(y, decay);
    sync_cta();  // u has been read by all

    if (state.part == 0) {
      if (normalize) scale_tokens(y, L::inverse());
      if (has_dots(kPass)) row_dots<kDx>(s, y, state, head_begin(s, s.dot_with, head, s.du), first);
      stage_rows<kDx>(y, state.strip);
    }
    sync_cta();
    store_rows<kDx>(s, y_rows, first);
    if (has_dots(kPass)) store_dots<kDx>(s, head, static_cast<i64>(s.shape.sequences) * s.shape.heads, first);
    if (kPass == Pass::dk && at_anchor) dot_anchor<kDx>(s, state, chunk / kAnchorChunks - 1, head);
  }
  if (walk.piece + 1 < s.pieces) return;
  if (kPass == Pass::dq && s.end_anchor) store_anchor<kDx>(s, state, inner_anchors(s.shape.tokens), head);
  if (s.last) state.store(s, s.last, head);
  if (normalize && s.last_n) store_normalizer<kDx>(s, s.last_n, head);
}

}  // namespace xlstm::mlstm
