#pragma once
// Gradients of the logarithms of the gates from row sums of the scans (docs/spec.md 5.3, 5.6):
//   dlog i_t = k_t dk_t;  dlog f_t = sum of (q dq - k dk) from t to the next anchor, and <dC, C> there; what lies
//   behind
// a reset does not count, and the state before one is dropped whatever log f was: 0.
#include <cmath>

#include "kernels/cuda/dialect.h"
#include "kernels/cuda/mlstm/parameters.h"

namespace xlstm::mlstm {

using namespace dialect;

constexpr int kAnchorTokens = kAnchorChunks * kChunk;
constexpr int kTokensPerThread = kAnchorTokens / kThreads;
constexpr int kGradientBytes = 4 * 2 * kThreads / 32;

// f(behind) = keep behind + add: what a stretch of tokens does to the sum behind it.
struct Stretch {
  float keep, add;
};
XL_DEVICE Stretch then(const Stretch& later, const Stretch& earlier) {
  return {earlier.keep * later.keep, earlier.keep * later.add + earlier.add};
}

// grid: (inner anchors + 1, B H); kThreads threads; kGradientBytes of shared memory
XL_KERNEL(kThreads, 1)
gate_gradients(const GateGradients g) {
  const i64 head = block_index().y, heads = static_cast<i64>(g.shape.sequences) * g.shape.heads;
  const i64 anchor = block_index().x, padded = chunks_of(g.shape.tokens) * kChunk;
  const i64 sequence = head / g.shape.heads, column = head % g.shape.heads;
  const i64 first = anchor * kAnchorTokens + thread_index() * kTokensPerThread;
  Stretch own[kTokensPerThread];
  Stretch all{1.f, 0.f};
  for (int j = kTokensPerThread - 1; j >= 0; --j) {
    const i64 token = first + j;
    own[j] = {1.f, 0.f};
    if (token < g.shape.tokens) {
      float q_dq = 0, k_dk = 0;
      for (i64 part = 0; part < g.dot_parts; ++part) {
        q_dq += global_load(g.dot_q + (part * heads + head) * padded + token);
        k_dk += global_load(g.dot_k + (part * heads + head) * padded + token);
      }
      const i64 row = sequence * g.shape.tokens + token;
      const float log_f = global_load(g.log_f.data + row * g.log_f.stride + column);
      const bool reset = log_f == -INFINITY || (token == 0 && !g.has_first);
      own[j] = reset ? Stretch{0.f, 0.f} : Stretch{1.f, q_dq - k_dk};
      global_store(g.dlog_i.data + row * g.dlog_i.stride + column, k_dk);
    }
    all = then(all, own[j]);
  }
  // What lies behind this thread's tokens: of later lanes, then of later warps, then of the anchor.
  Stretch suffix = all;
  for (int n = 1; n < 32; n *= 2) {
    const Stretch after{shuffle_down(suffix.keep, n), shuffle_down(suffix.add, n)};
    if (lane_index() + n < 32) suffix = then(after, suffix);
  }
  const std::uint32_t warps = shared_begin();
  if (lane_index() == 0) {
    shared_store(warps + static_cast<std::uint32_t>(warp_index()) * 8, suffix.keep);
    shared_store(warps + static_cast<std::uint32_t>(warp_index()) * 8 + 4, suffix.add);
  }
  Stretch behind{shuffle_down(suffix.keep, 1), shuffle_down(suffix.add, 1)};
  if (lane_index() == 31) behind = {1.f, 0.f};
  sync_cta();
  for (int warp = warp_index() + 1; warp < kThreads / 32; ++warp) {
    const Stretch later{shared_load<float>(warps + static_cast<std::uint32_t>(warp) * 8),
                        shared_load<float>(warps + static_cast<std::uint32_t>(warp) * 8 + 4)};
    behind = then(later, behind);
  }
  float sum = 0;
  if (anchor < inner_anchors(g.shape.tokens) || g.end_anchor)
    for (i64 part = 0; part < g.anchor_parts; ++part)
      sum += global_load(g.anchor_dot + (anchor * g.anchor_parts + part) * heads + head);
  sum = behind.keep * sum + behind.add;
  for (int j = kTokensPerThread - 1; j >= 0; --j) {
    sum = own[j].keep * sum + own[j].add;
    const i64 token = first + j;
    if (token < g.shape.tokens)
      global_store(g.dlog_f.data + (sequence * g.shape.tokens + token) * g.dlog_f.stride + column, sum);
  }
}

struct alignas(16) EightColumns {
  std::uint32_t pairs[4];
};

// grid: (ceil(B T / 8), 1), one warp to a row of all heads
XL_KERNEL(kThreads, 1)
scale_gradient(const ScaledGradient s) {
  const i64 row = static_cast<i64>(block_index().x) * (kThreads / 32) + warp_index();
  if (row >= static_cast<i64>(s.shape.sequences) * s.shape.tokens) return;
  const int width = s.shape.heads * s.shape.v_dim;
  constexpr int kDepth = 4;  // pieces of eight columns, all of one head, that are on their way at a time
  for (int first = 8 * lane_index(); first < width; first += kDepth * 256) {
    EightColumns piece[kDepth];
    XL_UNROLL
    for (int i = 0; i < kDepth; ++i)
      if (first + i * 256 < width)
        piece[i] = global_load(reinterpret_cast<const EightColumns*>(s.dh.data + row * s.dh.stride + first + i * 256));
    XL_UNROLL
    for (int i = 0; i < kDepth; ++i) {
      const int column = first + i * 256;
      if (column >= width) continue;
      const float factor =
          1.f / (global_load(s.denominator.data + row * s.denominator.stride + column / s.shape.v_dim) + s.shape.eps);
      for (std::uint32_t& pair : piece[i].pairs) pair = pack_bf16(low_half(pair) * factor, high_half(pair) * factor);
      global_store(reinterpret_cast<EightColumns*>(s.out.data + row * s.out.stride + column), piece[i]);
    }
  }
}

}  // namespace xlstm::mlstm
