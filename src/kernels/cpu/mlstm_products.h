#pragma once
// What the cell's passes say to those who multiply for them: VectorProducts (mlstm_vectors.h) and TileProducts
// (mlstm_tiles.h). Rows are the tokens of one chunk. Both have
//
//   Operand operand(MlstmOperand)         a matrix of the workspace in the forms that its products want
//   load(operand, Given)                  from elements in memory
//   take(operand, values, rows, cols)     from a matrix that was computed; it stays where it is
//   lower(out, a, b, rows, terms)         out = a b^T, at and below the diagonal
//   add_up(out, rows, cols, FromState, FromChunk)
//   accumulate(to, from, decay, a, b, rows, cols, begin, end)     to = decay from + a^T b, over rows [begin, end)
#include "kernels/cpu/small_gemm.h"
#include "kernels/mlstm_workspace.h"

namespace xlstm::XL_CPU {

template <class E>
struct Given {
  Rows<E> rows;
  i64 height, width;
  const ArithmeticOf<E>* factors = nullptr;  // of each row; null: 1
};

// out_i = factor_i (x c)_i for rows i in [begin, end); others have nothing from the state.
template <class Operand, class T>
struct FromState {
  const Operand &x, &c;
  i64 terms;
  const T* factors;
  i64 begin, end;
  bool transposed = false;  // c^T instead of c
};

// out_i += sum over j of w_ij u_j, where w is 0 above its diagonal; or of w_ji u_j.
template <class Operand, class T>
struct FromChunk {
  const Operand &weights, &u;
  const T* start;           // w_ij is 0 for j < start_i, too
  bool transposed = false;  // w^T instead of w
};

}  // namespace xlstm::XL_CPU
