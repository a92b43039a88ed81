#pragma once
// The score warpgroup: P = (x w^T) D of one chunk after the other, masked, in bf16, ahead of the state warpgroups; with
// a normaliser also 1 / (N + eps).
#include "kernels/cuda/mlstm/wgmma_loads.cuh"

namespace xlstm::mlstm {

// x w^T, and with a normaliser x n in eight columns more; both tiles are given back.
template <int kDx, bool kNormalize>
XL_DEVICE void multiply_scores(float (&score)[kNormalize ? 36 : 32], int i) {
  using L = WgmmaLayout<kDx, kNormalize>;
  wait(L::tile_full(2 * i), L::tile_round(2 * i));
  wait(L::tile_full(2 * i + 1), L::tile_round(2 * i + 1));
  const std::uint32_t x = L::tile(2 * i), w = L::tile(2 * i + 1);
  wgmma_fence();
  XL_UNROLL
  for (int k = 0; k < kDx / 16; ++k) {
    const std::uint32_t at = static_cast<std::uint32_t>(k / 4) * L::kPanel + static_cast<std::uint32_t>(k % 4) * 32;
    wgmma_shared<false, false>(score, rows_descriptor(x + at), rows_descriptor(w + at), k != 0);
  }
  wgmma_commit();
  wgmma_wait<0>();
  settled(score);
  arrive_in_cluster(L::tile_empty(2 * i));
  arrive_in_cluster(L::tile_empty(2 * i + 1));
}

// score *= D, 0 where the mask is; sums of the two rows that this thread shares with three others
template <int kDx, bool kReverse, bool kNormalize>
XL_DEVICE void weigh_scores(float (&score)[kNormalize ? 36 : 32], float (&sums)[2], int i) {
  using L = WgmmaLayout<kDx, kNormalize>;
  const int first_row = warpgroup_thread() / 32 * 16 + lane_index() / 4, first_column = (lane_index() & 3) * 2;
  const std::uint32_t segments = L::vector(i, kSegmentVector), columns = L::vector(i, kColumnVector);
  const auto segment = [&](int token) { return shared_load<int>(segments + static_cast<std::uint32_t>(token) * 4); };
  float exponents[2];
  int row_segments[2];
  XL_UNROLL
  for (int upper = 0; upper < 2; ++upper) {
    exponents[upper] = vector_at(L::vector(i, kRowVector), first_row + 8 * upper);
    row_segments[upper] = segment(first_row + 8 * upper);
    sums[upper] = 0;
  }
  XL_UNROLL
  for (int j = 0; j < 16; ++j) {
    const int column = j / 2 * 8 + first_column + j % 2;
    const float exponent = vector_at(columns, column);
    const int column_segment = kReverse ? segment(column) : 0;
    XL_UNROLL
    for (int upper = 0; upper < 2; ++upper) {
      const int row = first_row + 8 * upper;
      float& s = score[j / 2 * 4 + 2 * upper + j % 2];
      const bool keep =
          kReverse ? column >= row && column_segment <= row : column <= row && row_segments[upper] <= column;
      s = keep ? s * exp2_fast(exponents[upper] + exponent) : 0.f;
      sums[upper] += s;
    }
  }
}

template <int kDx, bool kNormalize>
XL_DEVICE void store_scores(const float (&score)[kNormalize ? 36 : 32], int i) {
  using L = WgmmaLayout<kDx, kNormalize>;
  const int lane = lane_index(), row = warpgroup_thread() / 32 * 16 + (lane & 15);
  XL_UNROLL
  for (int n = 0; n < 8; n += 2) {
    const std::uint32_t r[4] = {
        pack_bf16(score[4 * n], score[4 * n + 1]), pack_bf16(score[4 * n + 2], score[4 * n + 3]),
        pack_bf16(score[4 * n + 4], score[4 * n + 5]), pack_bf16(score[4 * n + 6], score[4 * n + 7])};
    store_matrices(tile_address(L::p_tile(i), row, n + (lane >> 4)), r);
  }
}

// N = max(|n q|, e^-m), and 1 / (N + eps)
template <int kDx>
XL_DEVICE void store_inverses(const Scan& s, const float (&score)[36], float (&sums)[2], i64 head, int i, int first) {
  using L = WgmmaLayout<kDx, true>;
  XL_UNROLL
  for (int upper = 0; upper < 2; ++upper) {
    float query_n = score[32 + 2 * upper] + score[33 + 2 * upper];
    for (int mask = 1; mask < 4; mask *= 2) {
      sums[upper] += shuffle_xor(sums[upper], mask);
      query_n += shuffle_xor(query_n, mask);
    }
    const int row = warpgroup_thread() / 32 * 16 + lane_index() / 4 + 8 * upper;
    const float nq = vector_at(L::vector(i, kReadVector), row) * query_n + sums[upper];
    const float size = nq < 0 ? -nq : nq, floor = exp2_fast(-1.44269504f * vector_at(L::vector(i, kMaxVector), row));
    const float denominator = size > floor ? size : floor;
    if ((lane_index() & 3) != 0) continue;
    shared_store(L::inverses(i) + static_cast<std::uint32_t>(row) * 4, 1.f / (denominator + s.shape.eps));
    if (slice_index() == 0 && first + row < s.shape.tokens)
      global_store(s.denominator.data + (head / s.shape.heads * s.shape.tokens + first + row) * s.denominator.stride +
                       head % s.shape.heads,
                   denominator);
  }
}

template <int kDx, Pass kPass, bool kNormalize>
XL_DEVICE void score_warpgroup(const WgmmaScan& p, i64 head, const Walk& walk) {
  using L = WgmmaLayout<kDx, kNormalize>;
  const bool loads = warpgroup_thread() == 0;
  const int count = walk.end - walk.begin;
  if (loads && count > 0) load_chunk<kDx, kPass, kNormalize>(p, head, 0, walk);
  sync_warp();
  for (int i = 0; i < count; ++i) {
    float score[kNormalize ? 36 : 32], sums[2];
    multiply_scores<kDx, kNormalize>(score, i);
    wait(L::u_full(i), L::u_round(i));
    weigh_scores<kDx, in_reverse(kPass), kNormalize>(score, sums, i);
    wait(L::p_empty(i), L::p_round(i) ^ 1);
    store_scores<kDx, kNormalize>(score, i);
    if constexpr (kNormalize)
      store_inverses<kDx>(p.scan, score, sums, head, i, walk.chunk<kPass>(walk.begin + i) * kChunk);
    publish_to_async();
    arrive(L::p_full(i));
    if (loads && i + 1 < count) load_chunk<kDx, kPass, kNormalize>(p, head, i + 1, walk);
    sync_warp();
  }
}

}  // namespace xlstm::mlstm
