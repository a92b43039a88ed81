#pragma once
// The mLSTM cell's tensors, and the one way its shapes are written down. B sequences, T tokens each, H heads; K = width
// of q and k per head, V = width of v and h per head. Heads are column slices: no transposes.
#include <array>

#include "core/gpu.h"

namespace xlstm {

enum class InputGate : std::uint8_t { exp, sigmoid };
constexpr auto names_of(InputGate) { return std::array{"exp", "sigmoid"}; }

// The norm of each head's h behind the cell: with or without its mean taken away first.
enum class HeadNorm : std::uint8_t { layernorm, rmsnorm };
constexpr auto names_of(HeadNorm) { return std::array{"layernorm", "rmsnorm"}; }

// Logarithms of the gates, (B*T, H), stat_type. f = -inf drops the state before this token exactly: what follows is as
// if the sequence began here.
struct Gates {
  Tensor i, f;
};

// q, k: (B*T, H*K); v: (B*T, H*V). Strided slices of one projection are fine. q is scaled by K^-1/2 inside.
struct CellInputs {
  Tensor q, k, v;
  Gates log;
};

// Stabilised state: C = c e^m, n = n e^m (spec §2.1). c: (B*H*K, V), n: (B*H, K), m: (B*H, 1); stat_type.
// An absent state (no rows) is zero, with m = -inf. Without a normaliser only c is used. In gradients of states, too,
// only c is used: the denominator and m are constants (spec §5.1), so n and m have none.
struct CellState {
  Tensor c, n, m;
  bool absent() const { return c.rows == 0; }
};

// Saved for backward, (B*T, H): the denominator after the max, without eps, and the combined maximum M (spec §3.4).
// Without a normaliser both are absent.
struct CellStats {
  Tensor denominator, max;
};

struct CellShape {
  i64 sequences = 1;                          // B
  i64 heads = 1;                              // H
  i64 chunk = 64;                             // L; T need not divide by it. chunk >= T is the parallel form
  bool normalize = true;                      // true: mLSTMexp. false: mLSTMsig (spec §2.2): no n, m, denominator
  double eps = 1e-6;                          // added to the denominator
  CellKernel kernel = CellKernel::automatic;  // of Device::cuda
  i64 shared_bytes = kHopperSharedBytes;      // that a CTA may have there
  int architecture = kHopperArchitecture;     // of that device
};

// Widths of one head, and tokens per sequence.
struct CellDims {
  i64 tokens, qk_dim, v_dim;  // T, K, V
};
CellDims cell_dims(const CellInputs& in, const CellShape& shape);  // checks that the shapes fit together
void check_cell_state(const CellState& state, const CellDims& dims, const CellShape& shape, bool with_normalizer);

// Elements of stat_type(type) that the workspace of mlstm_forward or mlstm_backward must hold: (1, that many). `tokens`
// is T, per sequence; `threads` is max_threads() at the time of the call of the op, or more.
i64 mlstm_workspace_elements(Device device, DType type, const CellShape& shape, i64 tokens, i64 qk_dim, i64 v_dim,
                             int threads, bool backward);
// The kernel that runs; UserError if the one that is asked for cannot take such a head.
CellKernel choose_cell_kernel(const CellShape& shape, DType type, i64 qk_dim, i64 v_dim);

// Floating-point operations of the chunkwise form over all sequences and heads, `tokens` per sequence; a multiply-add
// counts two, and of the products within a chunk only the causal half (spec §4.9).
double mlstm_forward_flops(const CellShape& shape, i64 tokens, i64 qk_dim, i64 v_dim);
double mlstm_backward_flops(const CellShape& shape, i64 tokens, i64 qk_dim, i64 v_dim);

}  // namespace xlstm
