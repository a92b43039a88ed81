#pragma once
// y of a chunk: (64 of du) x (64 tokens) in accumulators, y^T; from there to rows in global memory.
#include "kernels/cuda/mlstm/wgmma_state.cuh"

namespace xlstm::mlstm {

// y^T's columns times a vector
XL_DEVICE void scale_columns(float (&y)[32], std::uint32_t vector) {
  XL_UNROLL
  for (int n = 0; n < 8; ++n) {
    const float even = vector_at(vector, n * 8 + (lane_index() & 3) * 2),
                odd = vector_at(vector, n * 8 + (lane_index() & 3) * 2 + 1);
    y[4 * n] *= even, y[4 * n + 2] *= even;
    y[4 * n + 1] *= odd, y[4 * n + 3] *= odd;
  }
}

// The second part's y to the first, in two halves through 8 KiB. Barriers: 3 the place is free, 4 and 6 a half is
// there, 5 the first has been taken.
constexpr int kStateThreads = 256;

XL_DEVICE std::uint32_t half_place(std::uint32_t out, int j) {
  return out + static_cast<std::uint32_t>((j % 16 * 128 + warpgroup_thread()) * 4);
}
XL_DEVICE void give_part(const float (&y)[32], std::uint32_t out) {
  XL_UNROLL
  for (int half = 0; half < 2; ++half) {
    sync_threads(half == 0 ? 3 : 5, kStateThreads);
    XL_UNROLL
    for (int j = 0; j < 16; ++j) shared_store(half_place(out, j), y[16 * half + j]);
    arrive_threads(half == 0 ? 4 : 6, kStateThreads);
  }
}
XL_DEVICE void take_part(float (&y)[32], std::uint32_t out) {
  if (warpgroup_thread() == 0) wait_stores<0>();
  sync_warp();
  XL_UNROLL
  for (int half = 0; half < 2; ++half) {
    arrive_threads(half == 0 ? 3 : 5, kStateThreads);
    sync_threads(half == 0 ? 4 : 6, kStateThreads);
    XL_UNROLL
    for (int j = 0; j < 16; ++j) y[16 * half + j] += shared_load<float>(half_place(out, j));
  }
}

// Row sums of y and s.dot_with over a warp's 16 columns, from the f32 values.
template <int kDx>
XL_DEVICE void dot_rows(const Scan& s, const float (&y)[32], const StatePlace<kDx>& at, i64 head, int first) {
  const bf16* const with = s.dot_with.data + (head / s.shape.heads * s.shape.tokens + first) * s.dot_with.stride +
                           head % s.shape.heads * s.du;
  const i64 heads = static_cast<i64>(s.shape.sequences) * s.shape.heads, padded = chunks_of(s.shape.tokens) * kChunk,
            strip = at.column(0) / 16;
  float* const to = s.dot + (strip * heads + head) * padded + first;
  XL_UNROLL
  for (int n = 0; n < 8; ++n) {
    XL_UNROLL
    for (int odd = 0; odd < 2; ++odd) {
      const int token = n * 8 + (lane_index() & 3) * 2 + odd;
      float sum = 0;
      XL_UNROLL
      for (int upper = 0; upper < 2; ++upper)
        if (first + token < s.shape.tokens && at.column(2 * upper) < s.du)
          sum += y[4 * n + 2 * upper + odd] *
                 to_float(global_load(with + token * s.dot_with.stride + at.column(2 * upper)));
      sum += shuffle_xor(sum, 4);
      sum += shuffle_xor(sum, 8);
      sum += shuffle_xor(sum, 16);
      if (lane_index() < 4) global_store(to + token, sum);
    }
  }
}

// Through a place of this warpgroup in shared memory, by a bulk store; barrier `id` is its own.
template <int kDx>
XL_DEVICE void store_rows_of(const WgmmaScan& p, const float (&y)[32], const StatePlace<kDx>& at, std::uint32_t out,
                             int id, i64 head, int first) {
  const int lane = lane_index(), warp = warpgroup_thread() / 32;
  if (warpgroup_thread() == 0) wait_stores<0>();
  sync_warp();
  sync_threads(id, 128);
  XL_UNROLL
  for (int n = 0; n < 8; n += 2) {
    const std::uint32_t r[4] = {pack_bf16(y[4 * n], y[4 * n + 1]), pack_bf16(y[4 * n + 2], y[4 * n + 3]),
                                pack_bf16(y[4 * n + 4], y[4 * n + 5]), pack_bf16(y[4 * n + 6], y[4 * n + 7])};
    store_matrices_transposed(tile_address(out, n * 8 + (lane & 7) + ((lane >> 4) << 3), warp * 2 + ((lane >> 3) & 1)),
                              r);
  }
  publish_to_async();
  sync_threads(id, 128);
  const int heads = p.scan.shape.heads,
            column = slice_index() * StatePlace<kDx>::kSlice + at.strip * 64;  // of the head
  if (warpgroup_thread() == 0 && column < p.scan.du) {
    store_box(p.y, {static_cast<int>(head % heads) * p.scan.du + column, first, static_cast<int>(head / heads)}, out);
    commit_stores();
  }
  sync_warp();
}

}  // namespace xlstm::mlstm
