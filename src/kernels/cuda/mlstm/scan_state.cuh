#pragma once
// The state of one warp, in registers; reading it out, moving it on by a chunk, and tying it to its gradient.
#include "kernels/cuda/mlstm/scan_layout.cuh"

namespace xlstm::mlstm {

using namespace dialect;

template <int kDx>
struct WarpState {
  using L = ScanLayout<kDx>;
  static constexpr int kTiles = L::kPartWidth / 8;
  float c[kTiles][4];  // S^T: rows du = lane / 4 (+ 8), columns dx = 8 tile + 2 (lane & 3) (+ 1) of this part
  int strip, part;

  XL_DEVICE int column(int j) const { return strip * 16 + lane_index() / 4 + (j >= 2 ? 8 : 0); }  // of u, in the slice
  XL_DEVICE int row(int tile, int j) const {                                                      // of x
    return part * L::kPartWidth + tile * 8 + (lane_index() & 3) * 2 + (j & 1);
  }

  XL_DEVICE void fill(const Scan& s, const float* first, i64 head) {
    const i64 base = head * s.shape.qk_dim * s.shape.v_dim;
    XL_UNROLL
    for (int tile = 0; tile < kTiles; ++tile) {
      XL_UNROLL
      for (int j = 0; j < 4; ++j) {
        const int dx = row(tile, j), du = static_cast<int>(block_index().x) * L::kSlice + column(j);
        c[tile][j] =
            first && dx < s.dx && du < s.du ? global_load(first + base + dx * s.state_row + du * s.state_column) : 0.f;
      }
    }
  }

  XL_DEVICE void store(const Scan& s, float* last, i64 head) const {
    const i64 base = head * s.shape.qk_dim * s.shape.v_dim;
    XL_UNROLL
    for (int tile = 0; tile < kTiles; ++tile) {
      XL_UNROLL
      for (int j = 0; j < 4; ++j) {
        const int dx = row(tile, j), du = static_cast<int>(block_index().x) * L::kSlice + column(j);
        if (dx < s.dx && du < s.du) global_store(last + base + dx * s.state_row + du * s.state_column, c[tile][j]);
      }
    }
  }

  // y^T += S^T x^T: (16 of du) x 64 tokens
  XL_DEVICE void read_out(float (&y)[8][4]) const {
    XL_UNROLL
    for (int k = 0; k < kTiles / 2; ++k) {
      const std::uint32_t a[4] = {pack_bf16(c[2 * k][0], c[2 * k][1]), pack_bf16(c[2 * k][2], c[2 * k][3]),
                                  pack_bf16(c[2 * k + 1][0], c[2 * k + 1][1]),
                                  pack_bf16(c[2 * k + 1][2], c[2 * k + 1][3])};
      XL_UNROLL
      for (int n = 0; n < 4; ++n) {
        std::uint32_t b[4];
        load_matrices(b, square_address(L::x(), columns_first(), n, part * (L::kPartWidth / 16) + k));
        mma_16x8x16(y[2 * n], a, b[0], b[1]);
        mma_16x8x16(y[2 * n + 1], a, b[2], b[3]);
      }
    }
  }

  // y^T += u^T P^T (part 0 alone, where there are rows), and S^T <- decay S^T + (write u)^T w
  template <bool kRows>
  XL_DEVICE void add_chunk(float (&y)[8][4], float decay) {
    const int lane = lane_index();
    XL_UNROLL
    for (int tile = 0; tile < kTiles; ++tile) {
      XL_UNROLL
      for (int j = 0; j < 4; ++j) c[tile][j] *= decay;
    }
    XL_UNROLL
    for (int k = 0; k < kChunk / 16; ++k) {
      std::uint32_t u[4], b[4];
      load_matrices_transposed(u, square_address(L::u(), columns_first(), k, strip));
      if (kRows && part == 0) {
        XL_UNROLL
        for (int n = 0; n < 4; ++n) {
          load_matrices(b, square_address(L::p(), columns_first(), n, k));
          mma_16x8x16(y[2 * n], u, b[0], b[1]);
          mma_16x8x16(y[2 * n + 1], u, b[2], b[3]);
        }
      }
      const int token = k * 16 + (lane & 3) * 2;
      const std::uint32_t lo = pack_bf16(vector_at(L::write(), token), vector_at(L::write(), token + 1));
      const std::uint32_t hi = pack_bf16(vector_at(L::write(), token + 8), vector_at(L::write(), token + 9));
      u[0] = multiply_bf16x2(u[0], lo);
      u[1] = multiply_bf16x2(u[1], lo);
      u[2] = multiply_bf16x2(u[2], hi);
      u[3] = multiply_bf16x2(u[3], hi);
      XL_UNROLL
      for (int n = 0; n < kTiles / 2; ++n) {
        load_matrices_transposed(b, square_address(L::w(), rows_first(), k, part * (L::kPartWidth / 16) + n));
        mma_16x8x16(c[2 * n], u, b[0], b[1]);
        mma_16x8x16(c[2 * n + 1], u, b[2], b[3]);
      }
    }
  }
};

// --- anchors: the f32 fragments of all threads, one after the other

template <int kDx>
XL_DEVICE float* anchor_fragments(const Scan& s, i64 anchor, i64 head) {
  constexpr i64 kFragment = WarpState<kDx>::kTiles * 4;
  const i64 heads = static_cast<i64>(s.shape.sequences) * s.shape.heads;
  const i64 slices = (s.du + ScanLayout<kDx>::kSlice - 1) / ScanLayout<kDx>::kSlice;
  return s.anchors + ((anchor * heads + head) * slices + block_index().x) * kFragment * kThreads + thread_index();
}

template <int kDx>
XL_DEVICE void store_anchor(const Scan& s, const WarpState<kDx>& state, i64 anchor, i64 head) {
  float* to = anchor_fragments<kDx>(s, anchor, head);
  XL_UNROLL
  for (int tile = 0; tile < WarpState<kDx>::kTiles; ++tile) {
    XL_UNROLL
    for (int j = 0; j < 4; ++j) global_store(to + (tile * 4 + j) * kThreads, state.c[tile][j]);
  }
}

// <dC, C> over this slice. Uses the place of the row dots.
template <int kDx>
XL_DEVICE void dot_anchor(const Scan& s, const WarpState<kDx>& state, i64 anchor, i64 head) {
  using L = ScanLayout<kDx>;
  const float* from = anchor_fragments<kDx>(s, anchor, head);
  float sum = 0;
  XL_UNROLL
  for (int tile = 0; tile < WarpState<kDx>::kTiles; ++tile) {
    XL_UNROLL
    for (int j = 0; j < 4; ++j) sum += state.c[tile][j] * global_load(from + (tile * 4 + j) * kThreads);
  }
  XL_UNROLL
  for (int mask = 1; mask < 32; mask *= 2) sum += shuffle_xor(sum, mask);
  sync_cta();
  if (lane_index() == 0) shared_store(L::dots() + static_cast<std::uint32_t>(warp_index()) * 4, sum);
  sync_cta();
  if (thread_index() != 0) return;
  float total = 0;
  for (int warp = 0; warp < kThreads / 32; ++warp) total += vector_at(L::dots(), warp);
  const i64 heads = static_cast<i64>(s.shape.sequences) * s.shape.heads;
  const i64 slices = (s.du + L::kSlice - 1) / L::kSlice;
  global_store(s.anchor_dot + (anchor * slices + block_index().x) * heads + head, total);
}

}  // namespace xlstm::mlstm
