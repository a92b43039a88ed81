#pragma once
// How the cell's workspace on a CPU is carved up: one slice per thread, all parts at multiples of 16 elements. The
// kernels and mlstm_workspace_elements both read this one description. Plain numbers only: it is the same for every
// instruction set.
#include <algorithm>
#include <array>

#include "kernels/cell.h"

namespace xlstm {

// Sides of matrices of registers
constexpr i64 mlstm_pad(i64 n) { return (n + 15) / 16 * 16; }

// Columns of v and h that one task of the forward pass computes. Few heads are cut further, so that there is work for
// many threads; each cut repeats q k^T. Depends on the shape only.
constexpr i64 mlstm_value_block(const CellShape& shape, i64 v_dim) {
  return shape.sequences * shape.heads < 16 ? std::min<i64>(v_dim, 128) : v_dim;
}

// The backward pass has the states before this many chunks in memory; of those before, every so many-th one.
constexpr i64 kMlstmGroup = 16;

// A matrix as it stands in a product. `left`: its rows are rows of the result, its columns terms. `right`: its rows are
// terms, its columns columns of the result. `_t`: with rows and columns exchanged.
struct MlstmForm {
  static constexpr unsigned left = 1, left_t = 2, right = 4, right_t = 8, count = 4;
};

// Where an operand lies, in elements; -1 where there is none. Sides are padded.
struct MlstmOperand {
  i64 rows = 0, cols = 0;
  i64 values = -1, transposed = -1;                             // for products in registers
  std::array<i64, MlstmForm::count> packed = {-1, -1, -1, -1};  // for AMX's tiles, form by form: two bf16 per element
};

// Offsets of the parts, in elements. L, K, V: padded sides.
struct MlstmWorkspace {
  bool tiles;  // products on AMX's tiles
  i64 L, K, V, chunks;
  i64 gate_vectors, weights, sums, total = 0;               // both directions
  i64 c, n;                                                 // forward
  i64 dweights, dq, dk, kept_states, states, maxima, dc_t;  // backward
  MlstmOperand q, k, v, scaled, dh;                         // of what is given
  MlstmOperand weights_in, dweights_in, c_in, dc_in;        // of what is computed

  MlstmWorkspace(const CellShape& shape, i64 tokens, i64 qk_dim, i64 v_dim, bool backward, bool tiles_);

  // Matrices inside a slice have their sides padded to whole blocks, with zeros along K and V.
  constexpr i64 pad(i64 side) const { return tiles ? (side + 31) / 32 * 32 : mlstm_pad(side); }

 private:
  void plan_forward();
  void plan_backward();
  MlstmOperand computed(i64 rows, i64 cols, unsigned forms);
  MlstmOperand given(i64 rows, i64 cols, unsigned forms);
  i64 take(i64 rows, i64 cols);
};

}  // namespace xlstm
