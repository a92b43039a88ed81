#pragma once
// The state of one warpgroup, S^T (64 of du) x (kPart of dx), as accumulators of wgmma: reading it out, moving it on by
// a chunk, tying it to its gradient.
#include "kernels/cuda/mlstm/wgmma_layout.cuh"

namespace xlstm::mlstm {

// A step of 16 columns of the state as left operand.
template <int kPart>
XL_DEVICE void pack_state(std::uint32_t (&a)[4], const float (&c)[kPart / 2], int step) {
  XL_UNROLL
  for (int j = 0; j < 4; ++j) a[j] = pack_bf16(c[8 * step + 2 * j], c[8 * step + 2 * j + 1]);
  settled(a);
}

// y^T = S^T x^T, the last two steps left in flight. They take turns in `a`, which the caller keeps until they are done:
// more registers for it, and the state warpgroups would need more than they can have.
template <int kPart, std::uint32_t kPanel>
XL_DEVICE void start_read_out(float (&y)[32], std::uint32_t (&a)[2][4], const float (&c)[kPart / 2], std::uint32_t x) {
  constexpr int kSteps = kPart / 16;
  pack_state<kPart>(a[0], c, 0);
  pack_state<kPart>(a[1], c, 1);
  wgmma_fence();
  XL_UNROLL
  for (int step = 0; step < kSteps; ++step) {
    const std::uint32_t at = static_cast<std::uint32_t>(step / 4) * kPanel + static_cast<std::uint32_t>(step % 4) * 32;
    wgmma<false>(y, a[step & 1], rows_descriptor(x + at), step != 0);
    wgmma_commit();
    if (step > 0 && step + 1 < kSteps) {
      wgmma_wait<1>();
      pack_state<kPart>(a[(step + 1) & 1], c, step + 1);
      wgmma_fence();
    }
  }
}

// (write u)^T, 64 tokens, as left operands
XL_DEVICE void load_weighted(std::uint32_t (&u)[4][4], std::uint32_t panel, std::uint32_t write) {
  const int lane = lane_index(), warp = warpgroup_thread() / 32;
  XL_UNROLL
  for (int k = 0; k < 4; ++k) {
    load_matrices_transposed(
        u[k], tile_address(panel, k * 16 + (lane & 7) + ((lane >> 4) << 3), warp * 2 + ((lane >> 3) & 1)));
    const int token = k * 16 + (lane & 3) * 2;
    const std::uint32_t lo = pack_bf16(vector_at(write, token), vector_at(write, token + 1));
    const std::uint32_t hi = pack_bf16(vector_at(write, token + 8), vector_at(write, token + 9));
    u[k][0] = multiply_bf16x2(u[k][0], lo);
    u[k][1] = multiply_bf16x2(u[k][1], lo);
    u[k][2] = multiply_bf16x2(u[k][2], hi);
    u[k][3] = multiply_bf16x2(u[k][3], hi);
    settled(u[k]);
  }
}

// S^T += (write u)^T w, left in flight
template <int kPart, std::uint32_t kPanel>
XL_DEVICE void start_update(float (&c)[kPart / 2], const std::uint32_t (&u)[4][4], std::uint32_t w) {
  settled(c);
  wgmma_fence();
  XL_UNROLL
  for (int k = 0; k < 4; ++k)
    wgmma<true>(c, u[k], columns_descriptor(w + static_cast<std::uint32_t>(k) * 2048, kPanel), true);
  wgmma_commit();
}

// y^T += u^T P^T of 2 kEach tokens, left in flight
template <int kEach>
XL_DEVICE void start_scores(float (&y)[kEach], std::uint32_t u, std::uint32_t p) {
  settled(y);
  wgmma_fence();
  XL_UNROLL
  for (int k = 0; k < 4; ++k)
    wgmma_shared<true, false>(y, columns_descriptor(u + static_cast<std::uint32_t>(k) * 2048, kPanelBytes),
                              rows_descriptor(p + static_cast<std::uint32_t>(k) * 32), true);
  wgmma_commit();
}

// --- where a thread's accumulators stand in S

template <int kDx>
struct StatePlace {
  static constexpr int kParts = kDx > 256 ? 2 : 1, kPart = kDx / kParts, kSlice = 128 / kParts;
  int strip, part;  // of 64 columns of u; of x

  XL_DEVICE int column(int j) const {  // of u, from the head's first
    return slice_index() * kSlice + strip * 64 + warpgroup_thread() / 32 * 16 + lane_index() / 4 + (j & 2) * 4;
  }
  XL_DEVICE int row(int j) const { return part * kPart + j / 4 * 8 + (lane_index() & 3) * 2 + (j & 1); }  // of x
  XL_DEVICE i64 offset(const Scan& s, i64 head, int j) const {
    return head * s.shape.qk_dim * s.shape.v_dim + row(j) * s.state_row + column(j) * s.state_column;
  }
};

template <int kDx>
XL_DEVICE void fill_state(float (&c)[StatePlace<kDx>::kPart / 2], const Scan& s, const StatePlace<kDx>& at,
                          const float* first, i64 head) {
  XL_UNROLL
  for (int j = 0; j < StatePlace<kDx>::kPart / 2; ++j)
    c[j] = first && at.column(j) < s.du ? global_load(first + at.offset(s, head, j)) : 0.f;
}

template <int kDx>
XL_DEVICE void store_state(const float (&c)[StatePlace<kDx>::kPart / 2], const Scan& s, const StatePlace<kDx>& at,
                           i64 head) {
  XL_UNROLL
  for (int j = 0; j < StatePlace<kDx>::kPart / 2; ++j)
    if (at.column(j) < s.du) global_store(s.last + at.offset(s, head, j), c[j]);
}

// --- anchors: the f32 accumulators of all threads of the state, one after the other

template <int kDx>
XL_DEVICE float* anchor_of(const Scan& s, i64 anchor, i64 head) {
  constexpr i64 kEach = StatePlace<kDx>::kPart / 2, kStateThreads = 256;
  const i64 heads = static_cast<i64>(s.shape.sequences) * s.shape.heads;
  const i64 slices = slices_of(s.du, kDx);
  return s.anchors + ((anchor * heads + head) * slices + slice_index()) * kEach * kStateThreads + thread_index() - 128;
}

template <int kDx>
XL_DEVICE void keep_anchor(const float (&c)[StatePlace<kDx>::kPart / 2], const Scan& s, i64 anchor, i64 head) {
  float* to = anchor_of<kDx>(s, anchor, head);
  XL_UNROLL
  for (int j = 0; j < StatePlace<kDx>::kPart / 2; ++j) global_store(to + j * 256, c[j]);
}

// <dC, C> over what this warp has; columns behind the last of u are those of the next head.
template <int kDx>
XL_DEVICE void multiply_anchor(const float (&c)[StatePlace<kDx>::kPart / 2], const Scan& s, const StatePlace<kDx>& at,
                               i64 anchor, i64 head) {
  const float* from = anchor_of<kDx>(s, anchor, head);
  float sum = 0;
  if (at.column(0) < s.du) {
    XL_UNROLL
    for (int j = 0; j < StatePlace<kDx>::kPart / 2; ++j) sum += c[j] * global_load(from + j * 256);
  }
  XL_UNROLL
  for (int mask = 1; mask < 32; mask *= 2) sum += shuffle_xor(sum, mask);
  if (lane_index() != 0) return;
  const i64 heads = static_cast<i64>(s.shape.sequences) * s.shape.heads;
  const i64 warps = i64{8} * slices_of(s.du, kDx), warp = i64{8} * slice_index() + warp_index() - 4;
  global_store(s.anchor_dot + (anchor * warps + warp) * heads + head, sum);
}

}  // namespace xlstm::mlstm
