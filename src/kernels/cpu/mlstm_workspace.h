#pragma once
// How the cell's workspace is carved up: one slice per thread, all parts at multiples of 16 elements. The kernels and
// mlstm_workspace_elements both read this one description. Plain numbers only: it is the same for every instruction
// set.
#include <algorithm>

#include "kernels/cell.h"

namespace xlstm {

// Matrices inside a slice have their sides padded to whole tiles, with zeros along K and V.
constexpr i64 mlstm_pad(i64 n) { return (n + 15) / 16 * 16; }

// Columns of v and h that one task of the forward pass computes. Few heads are cut further, so that there is work for
// many threads; each cut repeats q k^T. Depends on the shape only.
constexpr i64 mlstm_value_block(const CellShape& shape, i64 v_dim) {
  return shape.sequences * shape.heads < 16 ? std::min<i64>(v_dim, 128) : v_dim;
}

// Offsets of the parts, in elements. L, K, V: padded sides.
struct MlstmWorkspace {
  i64 L, K, V, chunks;
  i64 gate_vectors, q, k_t, v, scaled, weights, total = 0;     // both directions
  i64 c, n;                                                    // forward
  i64 k, dh, v_t, dq, dk, dweights, states, maxima, dc, dc_t;  // backward

  MlstmWorkspace(const CellShape& shape, i64 tokens, i64 qk_dim, i64 v_dim, bool backward) {
    const i64 chunk = std::max<i64>(1, std::min(shape.chunk, tokens));
    chunks = (tokens + chunk - 1) / chunk;
    L = mlstm_pad(chunk);
    K = mlstm_pad(qk_dim);
    V = mlstm_pad(backward ? v_dim : mlstm_value_block(shape, v_dim));
    gate_vectors = take(8, L);
    q = take(L, K);
    k_t = take(K, L);
    v = take(L, V);
    scaled = take(L, K);
    weights = take(L, L);
    if (backward) {
      k = take(L, K);
      dh = take(L, V);
      v_t = take(V, L);
      dq = take(L, K);
      dk = take(L, K);
      dweights = take(L, L);
      states = take(chunks + 1, K * V);
      maxima = take(1, mlstm_pad(chunks + 1));
      dc = take(K, V);
      dc_t = take(V, K);
    } else {
      c = take(K, V);
      n = take(1, K);
    }
  }

 private:
  i64 take(i64 rows, i64 cols) {
    const i64 at = total;
    total += rows * cols;
    return at;
  }
};

}  // namespace xlstm
