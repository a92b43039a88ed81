#pragma once
// How the cell's workspace is carved up: one slice per thread, all parts at multiples of 16 elements. The kernels and
// mlstm_workspace_elements both read this one description. Plain numbers only: it is the same for every instruction
// set.
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

  MlstmWorkspace(const CellShape& shape, i64 tokens, i64 qk_dim, i64 v_dim, bool backward, bool tiles_)
      : tiles(tiles_) {
    const i64 chunk = std::max<i64>(1, std::min(shape.chunk, tokens));
    chunks = (tokens + chunk - 1) / chunk;
    L = pad(chunk);
    K = pad(qk_dim);
    V = pad(backward ? v_dim : mlstm_value_block(shape, v_dim));
    gate_vectors = take(8, L);
    weights = take(L, L);
    sums = tiles ? take(L, std::max(K, V)) : -1;
    backward ? plan_backward() : plan_forward();
  }

  // Matrices inside a slice have their sides padded to whole blocks, with zeros along K and V.
  constexpr i64 pad(i64 side) const { return tiles ? (side + 31) / 32 * 32 : mlstm_pad(side); }

 private:
  void plan_forward() {
    using F = MlstmForm;
    c = take(K, V);
    n = take(1, K);
    q = given(L, K, F::left);
    k = given(L, K, F::right_t);
    v = given(L, V, F::right);
    scaled = given(L, K, F::left_t);
    weights_in = computed(L, L, F::left);
    c_in = computed(K, V, F::right);
  }
  void plan_backward() {
    using F = MlstmForm;
    dweights = take(L, L);
    dq = take(L, K);
    dk = take(L, K);
    kept_states = take((chunks + kMlstmGroup - 1) / kMlstmGroup, K * V);
    states = take(std::min(chunks, kMlstmGroup) + 1, K * V);
    maxima = take(1, mlstm_pad(chunks + 1));
    dc_t = take(V, K);
    q = given(L, K, F::left | F::right);
    k = given(L, K, F::left | F::right | F::right_t);
    v = given(L, V, F::left | F::left_t | F::right_t);
    dh = given(L, V, F::left | F::left_t | F::right);
    scaled = given(L, K, F::right);
    weights_in = computed(L, L, F::left_t);
    dweights_in = computed(L, L, F::left | F::left_t);
    c_in = computed(V, K, F::right);
    dc_in = computed(V, K, F::right | F::right_t);
  }

  MlstmOperand computed(i64 rows, i64 cols, unsigned forms) {
    MlstmOperand o{rows, cols};
    if (!tiles && (forms & MlstmForm::right_t)) o.transposed = take(cols, rows);
    for (unsigned f = 0; tiles && f < MlstmForm::count; ++f)
      if (forms & 1u << f) o.packed[f] = take(rows, cols / 2);
    return o;
  }
  MlstmOperand given(i64 rows, i64 cols, unsigned forms) {
    MlstmOperand o = computed(rows, cols, forms);
    if (!tiles && forms != MlstmForm::right_t) o.values = take(rows, cols);
    return o;
  }
  i64 take(i64 rows, i64 cols) {
    const i64 at = total;
    total += rows * cols;
    return at;
  }
};

}  // namespace xlstm
