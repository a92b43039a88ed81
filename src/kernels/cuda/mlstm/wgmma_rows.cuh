#pragma once
// y of a chunk: (64 of du) x (64 or 32 tokens) in accumulators, y^T; from there to rows in global memory.
#include "kernels/cuda/lane_sums.cuh"
#include "kernels/cuda/mlstm/wgmma_state.cuh"

namespace xlstm::mlstm {

// y^T's columns times a vector
template <int kEach>
XL_DEVICE void scale_columns(float (&y)[kEach], std::uint32_t vector) {
  XL_UNROLL
  for (int n = 0; n < kEach / 4; ++n) {
    const float even = vector_at(vector, n * 8 + (lane_index() & 3) * 2),
                odd = vector_at(vector, n * 8 + (lane_index() & 3) * 2 + 1);
    y[4 * n] *= even, y[4 * n + 2] *= even;
    y[4 * n + 1] *= odd, y[4 * n + 3] *= odd;
  }
}

// Two warpgroups have the same columns of u and half of x each: the sum of their y, the first 32 tokens for the first,
// the others for the second. Through one place of 8 KiB: a thread of the first reads there what it is given, and leaves
// there what it gives. Barriers: 3 the place is free, 4 what the second gives is there, 5 what the first gives, 6 that
// has been taken; the first waits for it in finish_rows.
constexpr int kStateThreads = 256;

XL_DEVICE void share_rows(float (&mine)[16], const float (&y)[32], int part, std::uint32_t place) {
  const auto at = [&](int j) { return place + static_cast<std::uint32_t>((j * 128 + warpgroup_thread()) * 4); };
  if (warpgroup_thread() == 0) wait_stores<0>();
  sync_warp();
  if (part == 0) {
    arrive_threads(3, kStateThreads);
    sync_threads(4, kStateThreads);
    XL_UNROLL
    for (int j = 0; j < 16; ++j) {
      mine[j] = y[j] + shared_load<float>(at(j));
      shared_store(at(j), y[16 + j]);
    }
    arrive_threads(5, kStateThreads);
  } else {
    sync_threads(3, kStateThreads);
    XL_UNROLL
    for (int j = 0; j < 16; ++j) shared_store(at(j), y[j]);
    arrive_threads(4, kStateThreads);
    sync_threads(5, kStateThreads);
    XL_UNROLL
    for (int j = 0; j < 16; ++j) mine[j] = y[16 + j] + shared_load<float>(at(j));
    arrive_threads(6, kStateThreads);
  }
}

struct alignas(8) FloatPair {
  float even, odd;
};

// Row sums of y and s.dot_with over a warp's 16 columns, from the f32 values. `load` comes as long before `store` as
// registers allow.
template <int kEach>
struct RowDots {
  static constexpr int kColumns = kEach / 4;  // of y^T, in eights
  bf16 with[kColumns][2][2];                  // token 8 n + 2 (lane & 3) + odd; column of u lane / 4 + 8 upper

  // `row`: of the first token, at this thread's first column.
  XL_DEVICE void load(const bf16* row, i64 stride, int tokens) {
    const int token = (lane_index() & 3) * 2;
    XL_UNROLL
    for (int n = 0; n < kColumns; ++n) {
      XL_UNROLL
      for (int odd = 0; odd < 2; ++odd) {
        const bf16* at = row + (n * 8 + token + odd) * stride;
        const bool valid = n * 8 + token + odd < tokens;
        with[n][odd][0] = valid ? global_load(at) : bf16{};
        with[n][odd][1] = valid ? global_load(at + 8) : bf16{};
      }
    }
  }

  // In the end lane l has the sums of tokens 2 l and 2 l + 1.
  XL_DEVICE void store(const float (&y)[kEach], float* to) const {
    float sums[2 * kColumns];
    XL_UNROLL
    for (int j = 0; j < 2 * kColumns; ++j)
      sums[j] = y[j / 2 * 4 + j % 2] * to_float(with[j / 2][j % 2][0]) +
                y[j / 2 * 4 + 2 + j % 2] * to_float(with[j / 2][j % 2][1]);
    share_out_sums<kColumns, 2, 2>(sums);  // eight lanes have sums of the same tokens
    if (kColumns == 4) {
      sums[0] += shuffle_xor(sums[0], 16);
      sums[1] += shuffle_xor(sums[1], 16);
    }
    if (lane_index() < 4 * kColumns)
      global_store(reinterpret_cast<FloatPair*>(to) + lane_index(), FloatPair{sums[0], sums[1]});
  }
};

// Through a place of this warpgroup in shared memory, by a bulk store; barrier `id` is its own.
template <int kEach>
XL_DEVICE void stage_rows_of(const float (&y)[kEach], std::uint32_t out, int id) {
  const int lane = lane_index(), warp = warpgroup_thread() / 32;
  if (warpgroup_thread() == 0) wait_stores<0>();
  sync_warp();
  sync_threads(id, 128);
  XL_UNROLL
  for (int n = 0; n < kEach / 4; n += 2) {
    const std::uint32_t r[4] = {pack_bf16(y[4 * n], y[4 * n + 1]), pack_bf16(y[4 * n + 2], y[4 * n + 3]),
                                pack_bf16(y[4 * n + 4], y[4 * n + 5]), pack_bf16(y[4 * n + 6], y[4 * n + 7])};
    store_matrices_transposed(tile_address(out, n * 8 + (lane & 7) + ((lane >> 4) << 3), warp * 2 + ((lane >> 3) & 1)),
                              r);
  }
  publish_to_async();
  sync_threads(id, 128);
}

// Ends the CTA's i-th chunk: y^T of the state becomes y^T of the cell, in memory. Behind it no product is in flight,
// neither of c.
template <int kDx, Pass kPass, bool kNormalize, int kEach>
XL_DEVICE void finish_rows(const WgmmaScan& p, float (&y)[kEach], float (&c)[StatePlace<kDx>::kPart / 2],
                           const StatePlace<kDx>& at, i64 head, int i, int first) {
  using L = WgmmaLayout<kDx, kNormalize>;
  constexpr bool kEarly = kEach == 16 || L::kPart <= 192;  // registers for what is dotted with
  const Scan& s = p.scan;
  const int heads = s.shape.heads, plane = static_cast<int>(head / heads), tokens = at.part * L::kRowTokens,
            column = slice_index() * L::kSlice + at.strip * 64;  // of the head; behind the last it is all of the next
  const std::uint32_t strip = static_cast<std::uint32_t>(at.strip) * kPanelBytes;
  const bool mine = column < s.du;
  first += tokens;
  RowDots<kEach> dots;
  const auto load_dots = [&] {
    dots.load(s.dot_with.data + (i64{plane} * s.shape.tokens + first) * s.dot_with.stride +
                  static_cast<int>(head % heads) * s.du + at.column(0),
              s.dot_with.stride, mine ? s.shape.tokens - first : 0);
  };
  if (has_dots(kPass) && kEarly) load_dots();

  scale_columns(y, L::vector(i, kReadVector) + static_cast<std::uint32_t>(tokens) * 4);
  wait(L::p_full(i), L::p_round(i));
  start_scores(y, L::u_tile(i) + strip, L::p_tile(i) + static_cast<std::uint32_t>(tokens) * 128);
  wgmma_wait<0>();
  settled(y);
  settled(c);
  arrive_in_cluster(L::tile_empty(2 * i + 1));
  if (kNormalize) scale_columns(y, L::inverses(i));
  arrive(L::p_empty(i));

  if (has_dots(kPass)) {
    if (!kEarly) load_dots();
    const i64 padded = chunks_of(s.shape.tokens) * kChunk;
    dots.store(y, s.dot + (i64{at.column(0) / 16} * s.shape.sequences * heads + head) * padded + first);
  }
  const std::uint32_t out = shared_begin() + L::out + strip + static_cast<std::uint32_t>(tokens) * 128;
  if (L::kParts == 2 && at.part == 0) sync_threads(6, kStateThreads);
  stage_rows_of(y, out, 1 + at.strip + at.part);
  if (warpgroup_thread() == 0 && mine) {
    store_box(p.y, {static_cast<int>(head % heads) * s.du + column, first, plane}, out);
    commit_stores();
  }
  sync_warp();
}

}  // namespace xlstm::mlstm
