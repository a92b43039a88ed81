#pragma once
// What the mLSTM kernels are told: plain structs that travel by value to the device. B sequences, T tokens, H heads;
// chunks are of kChunk tokens, whatever the config's chunk size; vectors are padded to whole chunks. docs/kernels.md
// has the algebra.
#include <cstdint>

#include "core/bf16.h"

namespace xlstm::mlstm {

using i64 = std::int64_t;

constexpr int kChunk = 64;
constexpr int kThreads = 256;
constexpr int kAnchorChunks = 16;  // chunks between states that the gradient of the forget gate is tied to

constexpr i64 chunks_of(i64 tokens) { return (tokens + kChunk - 1) / kChunk; }

// Rows of bf16: token t of sequence b, head h begins at data + (b T + t) stride + h width. 16-byte aligned.
struct Matrix {
  bf16* data = nullptr;
  i64 stride = 0;
};

// A value per token and head: row b T + t, column h.
struct Column {
  float* data = nullptr;
  i64 stride = 0;
};

// f32 vectors that a pass needs, each (B H, padded T); of padding: 0, and -inf in exponents. With b the sum of log f
// from the chunk's (or segment's) beginning, m the maximum and m' that of the chunk before:
struct GateVectors {
  float* read = nullptr;   // exp(b_t + m' - m_t) K^-1/2: weight of the incoming state in token t; 0 behind a reset
  float* write = nullptr;  // exp(a_t - m_next): weight of token t in the outgoing state; 0 before the last reset
  float* query = nullptr;  // (b_t - m_t) log2 e + log2 K^-1/2
  float* key = nullptr;    // (log i_t - b_t) log2 e:   P_ts = (q k) exp2(query_t + key_s), s <= t
  float* max = nullptr;    // m_t
  int* segment = nullptr;  // first token of the segment, counted from the chunk's beginning
  float* decay = nullptr;  // (B H, chunks): exp(g + m' - m_next); 0 in a chunk with a reset
};

struct Shape {
  int sequences = 0, tokens = 0, heads = 0;  // B, T, H
  int qk_dim = 0, v_dim = 0;                 // K, V
  bool normalize = true;
  float eps = 0;
};

struct GateInputs {
  Column log_i, log_f;
  const float* first_max = nullptr;  // (B H): m of the first state, or none: there is no first state
  float* last_max = nullptr;
  Column max;              // m of every token, as the backward pass wants it back
  bool has_first = false;  // without a normaliser there is no maximum to tell
  Shape shape;
};

// One pass of the cell: y_r = read_r x_r S + sum over c of (x_r w_c) D_rc u_c, and S <- decay S + sum write_c w_c u_c.
//   forward: x = q, w = k, u = v     dq: x = dh', w = v, u = k        tokens in order
//   dk: x = v, w = dh', u = q        dv: x = k, w = q, u = dh'        in reverse, read and write exchanged
// dh' = dh / (N + eps).
struct Scan {
  Matrix x, w, u, y;
  int dx = 0, du = 0;  // width of x and w, of u and y; multiples of 8
  const float *read = nullptr, *write = nullptr, *row_exponent = nullptr, *column_exponent = nullptr;
  const float* max = nullptr;  // forward with normaliser only
  const float* decay = nullptr;
  const int* segment = nullptr;
  const float* first = nullptr;         // S before the first chunk of the pass, or none: zero
  float* last = nullptr;                // S behind the last one, or not wanted
  i64 state_row = 0, state_column = 0;  // S(dx, du) stands at dx state_row + du state_column, K V per (sequence, head)
  const float* first_n = nullptr;       // forward with normaliser: (B H, K)
  float* last_n = nullptr;
  Column denominator;           // forward with normaliser
  Matrix dot_with;              // dq: q, dk: k; the row sums of y and this go to dot
  float* dot = nullptr;         // (parts, B H, padded T)
  float* anchors = nullptr;     // dq writes S there, dk multiplies its own with it; layout: scan.cuh
  float* anchor_dot = nullptr;  // dk: (anchors, parts, B H)
  bool end_anchor = false;      // there is a gradient of the last state
  // Few heads: the sequence in pieces, in the order of the pass, side by side. The states before pieces 1, 2, ...
  int pieces = 1;
  float* piece_c = nullptr;  // (pieces - 1, B H, K V), as first
  float* piece_n = nullptr;  // (pieces - 1, B H, K)
  Shape shape;
};

// Pieces of a scan: so many that 128 CTAs have work, at most 16, of at least 8 chunks. A function of the shape alone:
// roundings depend on it.
constexpr int kMostPieces = 16;
constexpr int pieces_of(i64 chunks, i64 ctas) {
  int pieces = 1;
  while (pieces < kMostPieces && ctas * pieces < 128 && chunks >= i64{16} * pieces) pieces *= 2;
  return pieces;
}
constexpr i64 piece_chunks(i64 chunks, int pieces) { return (chunks + pieces - 1) / pieces; }

struct GateGradients {
  const float *dot_q = nullptr, *dot_k = nullptr;  // (dot_parts, B H, padded T): of dq and of dk
  const float* anchor_dot = nullptr;               // (anchors, anchor_parts, B H)
  int dot_parts = 0, anchor_parts = 0;
  bool end_anchor = false, has_first = false;
  Column log_f;
  Column dlog_i, dlog_f;
  Shape shape;
};

// dh' = dh / (N + eps), as bf16.
struct ScaledGradient {
  Matrix dh, out;
  Column denominator;
  Shape shape;
};

// The gradient of log f is a sum over all later tokens. Every kAnchorChunks chunks it is tied to <dC, C>, which is that
// sum without its roundings (docs/spec.md 5.6): at the beginning of chunk kAnchorChunks (1 + anchor), and at the end if
// the last state has a gradient.
constexpr i64 inner_anchors(i64 tokens) { return (chunks_of(tokens) - 1) / kAnchorChunks; }

}  // namespace xlstm::mlstm
