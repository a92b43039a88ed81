#pragma once
// The cell token by token, in f32, for any head: what computes f32 runs, generation, and heads that no other kernel
// takes. A CTA keeps the state of one head in shared memory for 32 columns of u; every thread owns some rows of one
// column.
//
// One kernel, four uses, as in scan.cuh: y_t = read_t x_t S with S <- decay S + write_t w_t u_t before it. In reverse
// the roles of read and write change, and the decay is that of the token behind.
#include <cmath>

#include "kernels/cuda/elements.cuh"
#include "kernels/cuda/mlstm/scan_layout.cuh"
#include "kernels/cuda/mlstm/workspace.h"

namespace xlstm::mlstm {

constexpr int kRecurrentWarps = kThreads / 32;

template <class T>
struct Recurrent {
  Rows<T> x, w, u, y;  // token t of sequence b: row b T + t; head h: columns from h width
  int dx = 0, du = 0;
  Column log_i, log_f;
  Column max;          // m_t: forward writes it if it is there, backward reads it. Without a normaliser absent
  Column denominator;  // the same
  const float* first_m = nullptr;  // of the forward direction, in every pass
  const float* first = nullptr;    // S before the pass' first token; like Scan's
  float* last = nullptr;
  i64 state_row = 0, state_column = 0;
  const float* first_n = nullptr;  // forward
  float *last_n = nullptr, *last_m = nullptr;
  Rows<T> dot_with;
  float* dot = nullptr;             // (tiles, B H, T)
  const float* end_with = nullptr;  // dq: gradient of the last state; its product with the state there goes to end_dot
  float* end_dot = nullptr;         // (tiles, B H)
  Shape shape;
};

constexpr int recurrent_bytes(int dx) { return 4 * (32 * dx + 2 * dx + 32 * kRecurrentWarps); }

// What the gates of one token do (docs/spec.md 2.1).
struct TokenGates {
  float decay, input, m;
};

XL_DEVICE TokenGates token_gates(float log_i, float log_f, float m_before, float m) {
  const float shift = m == -INFINITY ? 0.f : m;  // nothing was ever written
  return {expf(log_f + m_before - shift), expf(log_i - shift), m};
}

template <class T, Pass kPass>
struct RecurrentHead {
  const Recurrent<T>& p;
  i64 sequence, column;  // of the head
  float scale;

  XL_DEVICE i64 row(int token) const { return sequence * p.shape.tokens + token; }
  XL_DEVICE float at(const Column& c, int token) const { return global_load(c.data + row(token) * c.stride + column); }
  XL_DEVICE float first_m() const {
    return p.first_m ? global_load(p.first_m + sequence * p.shape.heads + column) : -INFINITY;
  }

  // Forward finds m on its way; the other passes look it up.
  XL_DEVICE TokenGates gates(int token, float m_before) const {
    const float log_i = at(p.log_i, token), log_f = at(p.log_f, token);
    if (!p.shape.normalize) return token_gates(log_i, log_f, 0.f, 0.f);
    if constexpr (kPass == Pass::forward) {
      const float carried = log_f + m_before;
      return token_gates(log_i, log_f, m_before, carried > log_i ? carried : log_i);
    }
    return token_gates(log_i, log_f, token > 0 ? at(p.max, token - 1) : first_m(), at(p.max, token));
  }
  // 1 / (N + eps): what turns dh into dh'.
  XL_DEVICE float inverse(int token) const {
    return p.shape.normalize ? 1.f / (at(p.denominator, token) + p.shape.eps) : 1.f;
  }

  XL_DEVICE float load(const Rows<T>& from, int token, int width, int j) const {
    float v[1];
    load_floats<1>(v, from.row(row(token)) + column * width + j);
    return v[0];
  }
};

// Rows of the state: thread's own are warp, warp + kRecurrentWarps, ...
XL_DEVICE std::uint32_t recurrent_cell(int row) {
  return shared_begin() + static_cast<std::uint32_t>(row * 32 + lane_index()) * 4;
}

template <class T>
XL_DEVICE void begin_state(const Recurrent<T>& p, i64 head, int j, bool is_n) {
  for (int r = warp_index(); r < p.dx; r += kRecurrentWarps) {
    float s = 0;
    if (p.first && !is_n && j < p.du)
      s = global_load(p.first + head * p.dx * p.du + r * p.state_row + j * p.state_column);
    if (p.first_n && is_n) s = global_load(p.first_n + head * p.dx + r);
    shared_store(recurrent_cell(r), s);
  }
}

template <class T>
XL_DEVICE void end_state(const Recurrent<T>& p, i64 head, int j, bool is_n, float factor) {
  for (int r = warp_index(); r < p.dx; r += kRecurrentWarps) {
    const float s = shared_load<float>(recurrent_cell(r)) * factor;
    if (p.last && !is_n && j < p.du)
      global_store(p.last + head * p.dx * p.du + r * p.state_row + j * p.state_column, s);
    if (p.last_n && is_n && block_index().x == 0) global_store(p.last_n + head * p.dx + r, s);
  }
}

// The sum over the warps' rows, in order; for warp 0.
XL_DEVICE float sum_of_warps(std::uint32_t partial) {
  return shared_column_sum(partial + static_cast<std::uint32_t>(lane_index()) * kFloat, kRecurrentWarps, 32);
}

// y of one token, by warp 0.
template <class T, Pass kPass>
XL_DEVICE void write_token(const RecurrentHead<T, kPass>& h, int token, i64 head, int j, bool is_n, float y,
                           const TokenGates& gates) {
  const Recurrent<T>& p = h.p;
  if constexpr (kPass == Pass::forward) {
    y *= h.scale;
    if (p.shape.normalize) {
      const float query_n = fabsf(shuffle_from(y, 31)), least = expf(-gates.m);
      const float n = query_n > least ? query_n : least;
      y /= n + p.shape.eps;
      if (is_n && block_index().x == 0 && p.max.data) {
        global_store(p.max.data + h.row(token) * p.max.stride + h.column, gates.m);
        global_store(p.denominator.data + h.row(token) * p.denominator.stride + h.column, n);
      }
    }
  } else {
    y *= in_reverse(kPass) ? gates.input : h.scale;
  }
  const bool mine = !is_n && j < p.du;
  if (p.dot) {
    const float sum = warp_sum(mine ? y * h.load(p.dot_with, token, p.du, j) : 0.f);
    const i64 heads = static_cast<i64>(p.shape.sequences) * p.shape.heads;
    if (lane_index() == 0)
      global_store(p.dot + (static_cast<i64>(block_index().x) * heads + head) * p.shape.tokens + token, sum);
  }
  const float out[1] = {y};
  if (mine) store_floats<1>(p.y.row(h.row(token)) + h.column * p.du + j, out);
}

// sum over this CTA's columns of S and p.end_with
template <class T>
XL_DEVICE void end_product(const Recurrent<T>& p, i64 head, int j, std::uint32_t partial) {
  float sum = 0;
  if (j < p.du)
    for (int r = warp_index(); r < p.dx; r += kRecurrentWarps)
      sum += shared_load<float>(recurrent_cell(r)) *
             global_load(p.end_with + head * p.dx * p.du + r * p.state_row + j * p.state_column);
  sync_cta();  // partial has been read
  shared_store(partial + static_cast<std::uint32_t>(thread_index()) * 4, sum);
  sync_cta();
  if (warp_index() > 0) return;
  const float total = warp_sum(sum_of_warps(partial));
  if (lane_index() == 0)
    global_store(p.end_dot + static_cast<i64>(block_index().x) * p.shape.sequences * p.shape.heads + head, total);
}

// grid: (tiles of du, B H); kThreads threads; recurrent_bytes(dx) of shared memory
template <class T, Pass kPass>
XL_KERNEL(kThreads, 1)
recurrent(const Recurrent<T> p) {
  constexpr bool kForward = kPass == Pass::forward, kReverse = in_reverse(kPass);
  const i64 head = block_index().y;
  const RecurrentHead<T, kPass> h{p, head / p.shape.heads, head % p.shape.heads,
                                  1.f / sqrtf(static_cast<float>(p.shape.qk_dim))};
  const int columns = recurrent_columns(kForward && p.shape.normalize);
  const bool is_n = lane_index() >= columns;
  const int j = static_cast<int>(block_index().x) * columns + lane_index();
  const std::uint32_t x = shared_begin() + static_cast<std::uint32_t>(p.dx) * 128,
                      w = x + static_cast<std::uint32_t>(p.dx) * 4, partial = w + static_cast<std::uint32_t>(p.dx) * 4;
  begin_state(p, head, j, is_n);
  float m = h.first_m(), decay_behind = 1;
  for (int i = 0; i < p.shape.tokens; ++i) {
    const int token = kReverse ? p.shape.tokens - 1 - i : i;
    const TokenGates gates = h.gates(token, m);
    const float inverse = kForward ? 1.f : h.inverse(token);
    const float write = kReverse ? h.scale : gates.input;
    for (int r = thread_index(); r < p.dx; r += kThreads) {
      shared_store(x + static_cast<std::uint32_t>(r) * 4,
                   h.load(p.x, token, p.dx, r) * (kPass == Pass::dq ? inverse : 1.f));
      shared_store(w + static_cast<std::uint32_t>(r) * 4,
                   h.load(p.w, token, p.dx, r) * (kPass == Pass::dk ? inverse : 1.f));
    }
    sync_cta();
    float u = is_n ? 1.f : 0.f;
    if (!is_n && j < p.du) u = h.load(p.u, token, p.du, j) * (kPass == Pass::dv ? inverse : 1.f);
    const float decay = kReverse ? decay_behind : gates.decay;
    float y = 0;
    for (int r = warp_index(); r < p.dx; r += kRecurrentWarps) {
      const float s = decay * shared_load<float>(recurrent_cell(r)) + vector_at(w, r) * (write * u);
      shared_store(recurrent_cell(r), s);
      y += vector_at(x, r) * s;
    }
    shared_store(partial + static_cast<std::uint32_t>(thread_index()) * 4, y);
    sync_cta();
    if (warp_index() == 0) write_token(h, token, head, j, is_n, sum_of_warps(partial), gates);
    m = gates.m;
    decay_behind = gates.decay;
  }
  end_state(p, head, j, is_n, kReverse ? decay_behind : 1.f);
  if (kForward && p.last_m && block_index().x == 0 && thread_index() == 0) global_store(p.last_m + head, m);
  if (kPass == Pass::dq && p.end_with) end_product(p, head, j, partial);
}

// dlog i_t = k_t dk_t;  dlog f_t = sum of (q dq - k dk) from t to the end of the segment, and <dC, C> at the end. The
// sum runs in f64. One warp to a head; grid: (B H)
struct RecurrentGateGradients {
  const float *dot_q = nullptr, *dot_k = nullptr, *end_dot = nullptr;  // end_dot: or none
  i64 tiles = 0;
  bool has_first = false;
  Column log_f, dlog_i, dlog_f;
  Shape shape;
};

XL_KERNEL(32, 1)
recurrent_gate_gradients(const RecurrentGateGradients g) {
  const i64 head = block_index().x, heads = static_cast<i64>(g.shape.sequences) * g.shape.heads;
  const i64 sequence = head / g.shape.heads, column = head % g.shape.heads;
  double sum = 0;
  for (i64 tile = 0; g.end_dot && tile < g.tiles; ++tile)
    sum += static_cast<double>(global_load(g.end_dot + tile * heads + head));
  for (int first = (g.shape.tokens - 1) / 32 * 32; first >= 0; first -= 32) {
    const int token = first + lane_index();
    const i64 row = sequence * g.shape.tokens + token;
    const bool inside = token < g.shape.tokens;
    double q_dq = 0, k_dk = 0;
    bool reset = false;
    if (inside) {
      for (i64 tile = 0; tile < g.tiles; ++tile) {
        q_dq += static_cast<double>(global_load(g.dot_q + (tile * heads + head) * g.shape.tokens + token));
        k_dk += static_cast<double>(global_load(g.dot_k + (tile * heads + head) * g.shape.tokens + token));
      }
      reset = global_load(g.log_f.data + row * g.log_f.stride + column) == -INFINITY || (token == 0 && !g.has_first);
      global_store(g.dlog_i.data + row * g.dlog_i.stride + column, static_cast<float>(k_dk));
    }
    double mine = 0;
    for (int l = 31; l >= 0; --l) {
      const double change = shuffle_from(q_dq - k_dk, l);
      sum = shuffle_from(reset ? 1 : 0, l) != 0 ? 0.0 : sum + change;
      if (l == lane_index()) mine = sum;
    }
    if (inside) global_store(g.dlog_f.data + row * g.dlog_f.stride + column, static_cast<float>(mine));
  }
}

}  // namespace xlstm::mlstm
