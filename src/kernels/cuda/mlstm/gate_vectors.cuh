#pragma once
// The vectors of parameters.h from the logarithms of the gates: one CTA per head. Chunks are independent but for the
// maximum that one hands to the next, so: every warp sums up chunks of its own, one thread runs through the sums, and
// every warp writes the vectors of its chunks. All in f32.
#include <cmath>

#include "kernels/cuda/dialect.h"
#include "kernels/cuda/mlstm/parameters.h"

namespace xlstm::mlstm {

using namespace dialect;

constexpr float kNothing = -INFINITY;
constexpr int kGateThreads = 1024;  // one CTA per head has to keep the memory busy alone
constexpr int kChunksAtOnce = 256;
constexpr int kGateBytes = 4 * 3 * kChunksAtOnce;  // of shared memory: sum of log f, largest a, m before each chunk

// Two tokens per lane: 2 lane and 2 lane + 1.
struct ChunkGates {
  float log_i[2], log_f[2];
  float b[2], a[2];
  int segment[2];  // first token of the segment
  int head, tail;  // tokens before the first reset (or all); first token of the last segment
  float total;     // sum of log f; nothing if there is a reset
};

XL_DEVICE float larger(float a, float b) { return a > b ? a : b; }

XL_DEVICE ChunkGates read_chunk(const GateInputs& in, i64 head, i64 chunk) {
  ChunkGates g;
  const int lane = lane_index();
  float sum[2];
  int start[2];
  for (int j = 0; j < 2; ++j) {
    const i64 token = chunk * kChunk + 2 * lane + j;
    const i64 row = head / in.shape.heads * in.shape.tokens + token, column = head % in.shape.heads;
    const bool inside = token < in.shape.tokens;
    g.log_i[j] = inside ? global_load(in.log_i.data + row * in.log_i.stride + column) : kNothing;
    g.log_f[j] = inside ? global_load(in.log_f.data + row * in.log_f.stride + column) : 0.f;
    const bool reset = g.log_f[j] == kNothing || (token == 0 && !in.has_first);
    start[j] = reset ? 2 * lane + j : -1;
    sum[j] = reset ? 0.f : g.log_f[j];
    if (reset) g.log_f[j] = 0.f;
  }
  // Prefix over lanes of the sum since the last reset, and of where that was.
  float lane_sum = start[1] >= 0 ? sum[1] : sum[0] + sum[1];
  int lane_start = start[1] >= 0 ? start[1] : start[0];
  for (int n = 1; n < 32; n *= 2) {
    const float before = shuffle_up(lane_sum, n);
    const int before_start = shuffle_up(lane_start, n);
    if (lane < n) continue;
    if (lane_start < 0) lane_sum += before;
    if (before_start > lane_start) lane_start = before_start;
  }
  const float carried = shuffle_up(lane_sum, 1);
  const int carried_start = shuffle_up(lane_start, 1);
  g.b[0] = start[0] >= 0 ? 0.f : sum[0] + (lane > 0 ? carried : 0.f);
  g.b[1] = start[1] >= 0 ? 0.f : g.b[0] + sum[1];
  const int open = lane > 0 ? carried_start : -1;
  const int last0 = start[0] >= 0 ? start[0] : open, last1 = start[1] >= 0 ? start[1] : last0;
  g.segment[0] = last0 < 0 ? 0 : last0;
  g.segment[1] = last1 < 0 ? 0 : last1;
  const int last = shuffle_from(last1, 31);
  g.tail = last < 0 ? 0 : last;

  int first = start[0] >= 0 ? start[0] : (start[1] >= 0 ? start[1] : kChunk);
  for (int mask = 1; mask < 32; mask *= 2) {
    const int other = shuffle_xor(first, mask);
    if (other < first) first = other;
  }
  g.head = first;
  g.total = first < kChunk ? kNothing : shuffle_from(g.b[1], 31);

  // a: the sum of log f behind a token, inside the last segment, and its log i
  float behind = g.log_f[0] + g.log_f[1];
  for (int n = 1; n < 32; n *= 2) {
    const float after = shuffle_down(behind, n);
    if (lane + n < 32) behind += after;
  }
  const float next = shuffle_down(behind, 1);
  const float beyond = lane < 31 ? next : 0.f;
  g.a[1] = 2 * lane + 1 >= g.tail ? beyond + g.log_i[1] : kNothing;
  g.a[0] = 2 * lane >= g.tail ? beyond + g.log_f[1] + g.log_i[0] : kNothing;
  return g;
}

XL_DEVICE float largest_of_warp(float x) {
  for (int mask = 1; mask < 32; mask *= 2) x = larger(x, shuffle_xor(x, mask));
  return x;
}

// Largest log i - b of the segment up to each of the lane's tokens.
XL_DEVICE void running_largest(const ChunkGates& g, float (&out)[2]) {
  const int lane = lane_index();
  const float own[2] = {g.log_i[0] - g.b[0], g.log_i[1] - g.b[1]};
  float largest = g.segment[1] == 2 * lane + 1 ? own[1] : larger(own[0], own[1]);
  for (int n = 1; n < 32; n *= 2) {
    const float before = shuffle_up(largest, n);
    // Of lane - n, which covers its own segment: it counts if that segment reaches this lane's last token.
    if (lane >= n && g.segment[1] <= 2 * (lane - n) + 1) largest = larger(largest, before);
  }
  const float before = shuffle_up(largest, 1);
  const bool open = lane > 0 && g.segment[0] <= 2 * (lane - 1) + 1;
  out[0] = open ? larger(own[0], before) : own[0];
  out[1] = g.segment[1] == 2 * lane + 1 ? own[1] : larger(out[0], own[1]);
}

XL_DEVICE void write_chunk(const GateVectors& out, const GateInputs& in, const ChunkGates& g, i64 head, i64 chunk,
                           float m, float m_next) {
  constexpr float kLog2e = 1.44269504f;
  const float width = static_cast<float>(in.shape.qk_dim), log2_scale = -0.5f * log2f(width),
              scale = 1.f / sqrtf(width);
  const i64 padded = chunks_of(in.shape.tokens) * kChunk;
  const float next_shift = m_next == kNothing ? 0.f : m_next;
  float running[2];
  running_largest(g, running);
  for (int j = 0; j < 2; ++j) {
    const int t = 2 * lane_index() + j;
    const i64 token = chunk * kChunk + t, at = head * padded + token;
    const bool inside = token < in.shape.tokens;
    const float incoming = t < g.head ? g.b[j] + m : kNothing;
    const float max = in.shape.normalize ? larger(incoming, g.b[j] + running[j]) : 0.f;
    const float shift = max == kNothing ? 0.f : max;
    global_store(out.read + at, inside ? expf(incoming - shift) * scale : 0.f);
    global_store(out.write + at, inside ? expf(g.a[j] - next_shift) : 0.f);
    global_store(out.query + at, inside ? (g.b[j] - shift) * kLog2e + log2_scale : kNothing);
    global_store(out.key + at, inside ? (g.log_i[j] - g.b[j]) * kLog2e : kNothing);
    global_store(out.max + at, inside ? max : 0.f);
    global_store(out.segment + at, g.segment[j]);
    if (inside && in.max.data)
      global_store(
          in.max.data + (head / in.shape.heads * in.shape.tokens + token) * in.max.stride + head % in.shape.heads, max);
  }
  if (lane_index() == 0)
    global_store(out.decay + head * chunks_of(in.shape.tokens) + chunk,
                 g.head < kChunk ? 0.f : expf(g.total + m - next_shift));
}

// grid: (1, B H); kGateThreads threads; kGateBytes of shared memory
XL_KERNEL(kGateThreads, 1)
gate_vectors(const GateInputs in, const GateVectors out) {
  const std::uint32_t totals = shared_begin(), largest = totals + 4 * kChunksAtOnce,
                      before = largest + 4 * kChunksAtOnce;
  const auto at = [](std::uint32_t array, i64 i) { return array + static_cast<std::uint32_t>(i) * 4; };
  const i64 head = block_index().y, chunks = chunks_of(in.shape.tokens);
  float m = !in.shape.normalize ? 0.f : (in.has_first ? global_load(in.first_max + head) : kNothing);
  for (i64 begin = 0; begin < chunks; begin += kChunksAtOnce) {
    const i64 count = chunks - begin < kChunksAtOnce ? chunks - begin : kChunksAtOnce;
    for (i64 i = warp_index(); i < count; i += kGateThreads / 32) {
      const ChunkGates g = read_chunk(in, head, begin + i);
      const float a = largest_of_warp(larger(g.a[0], g.a[1]));
      if (lane_index() == 0) {
        shared_store(at(totals, i), g.total);
        shared_store(at(largest, i), a);
      }
    }
    sync_cta();
    if (thread_index() == 0)
      for (i64 i = 0; i < count; ++i) {
        shared_store(at(before, i), m);
        if (in.shape.normalize) m = larger(shared_load<float>(at(totals, i)) + m, shared_load<float>(at(largest, i)));
      }
    sync_cta();
    for (i64 i = warp_index(); i < count; i += kGateThreads / 32) {
      const ChunkGates g = read_chunk(in, head, begin + i);
      const float incoming = shared_load<float>(at(before, i));
      const float a = largest_of_warp(larger(g.a[0], g.a[1]));
      const float next = in.shape.normalize ? larger(g.total + incoming, a) : 0.f;
      write_chunk(out, in, g, head, begin + i, incoming, next);
    }
    sync_cta();
  }
  if (thread_index() == 0 && in.last_max && in.shape.normalize) global_store(in.last_max + head, m);
}

}  // namespace xlstm::mlstm
