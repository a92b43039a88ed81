#pragma once
// n before every chunk, for the wgmma scan of the forward pass: n <- decay n + sum of write_s k_s. As bf16 in three
// terms, which together are n in f32, and five rows of zeros: eight rows that are multiplied like rows of k.
#include "kernels/cuda/dialect.h"
#include "kernels/cuda/mlstm/parameters.h"

namespace xlstm::mlstm {

using namespace dialect;

struct NormalizerStates {
  Matrix k;
  const float *write = nullptr, *decay = nullptr;  // GateVectors
  const float* first_n = nullptr;                  // (B H, K), or none: zero
  float* last_n = nullptr;
  bf16* rows = nullptr;  // (B H, chunks, 8, K)
  Shape shape;
};

constexpr int kNormalizerWarps = kThreads / 32;
constexpr int kNormalizerBytes = kNormalizerWarps * 64 * 4;

// Of columns 2 lane and 2 lane + 1 of one chunk, one warp.
XL_DEVICE void sum_chunk(const NormalizerStates& s, const bf16* k, i64 head, i64 chunk, float (&sum)[2]) {
  const i64 padded = chunks_of(s.shape.tokens) * kChunk, first = chunk * kChunk;
  const float* const write = s.write + head * padded + first;
  const float weights[2] = {global_load(write + lane_index()), global_load(write + 32 + lane_index())};
  sum[0] = sum[1] = 0;
  XL_UNROLL
  for (int half = 0; half < 2; ++half) {
    XL_UNROLL
    for (int t = 0; t < 32; ++t) {
      const float weight = shuffle_from(weights[half], t);
      const i64 token = first + half * 32 + t;
      const std::uint32_t pair =
          token < s.shape.tokens ? global_load(reinterpret_cast<const std::uint32_t*>(k + token * s.k.stride)) : 0u;
      sum[0] += weight * low_half(pair);
      sum[1] += weight * high_half(pair);
    }
  }
}

XL_DEVICE void store_terms(bf16* rows, int width, float lo, float hi) {
  XL_UNROLL
  for (int row = 0; row < 8; ++row) {
    const std::uint32_t term = row < 3 ? pack_bf16(lo, hi) : 0u;
    global_store(reinterpret_cast<std::uint32_t*>(rows + static_cast<i64>(row) * width), term);
    lo -= low_half(term);
    hi -= high_half(term);
  }
}

// grid: (K / 64, B H); kThreads threads; kNormalizerBytes of shared memory. A warp per chunk, then one that adds up.
XL_KERNEL(kThreads, 1)
normalizer_states(const NormalizerStates s) {
  const i64 head = block_index().y, chunks = chunks_of(s.shape.tokens),
            column = block_index().x * 64 + 2 * lane_index();
  const bf16* const k =
      s.k.data + head / s.shape.heads * s.shape.tokens * s.k.stride + head % s.shape.heads * s.shape.qk_dim + column;
  const auto place = [](int warp, int j) {
    return shared_begin() + static_cast<std::uint32_t>((warp * 64 + 2 * lane_index() + j) * 4);
  };
  float n[2] = {0, 0};  // of the first warp
  if (s.first_n && warp_index() == 0)
    for (int j = 0; j < 2; ++j) n[j] = global_load(s.first_n + head * s.shape.qk_dim + column + j);
  for (i64 begin = 0; begin < chunks; begin += kNormalizerWarps) {
    const i64 chunk = begin + warp_index();
    if (chunk < chunks) {
      float sum[2];
      sum_chunk(s, k, head, chunk, sum);
      for (int j = 0; j < 2; ++j) shared_store(place(warp_index(), j), sum[j]);
    }
    sync_cta();
    if (warp_index() == 0)
      for (int w = 0; w < kNormalizerWarps && begin + w < chunks; ++w) {
        const float decay = global_load(s.decay + head * chunks + begin + w);
        for (int j = 0; j < 2; ++j) {
          const float added = shared_load<float>(place(w, j));
          shared_store(place(w, j), n[j]);
          n[j] = decay * n[j] + added;
        }
      }
    sync_cta();
    if (chunk < chunks)
      store_terms(s.rows + ((head * chunks + chunk) * 8) * s.shape.qk_dim + column, s.shape.qk_dim,
                  shared_load<float>(place(warp_index(), 0)), shared_load<float>(place(warp_index(), 1)));
    sync_cta();
  }
  if (s.last_n && warp_index() == 0)
    for (int j = 0; j < 2; ++j) global_store(s.last_n + head * s.shape.qk_dim + column + j, n[j]);
}

}  // namespace xlstm::mlstm
