#pragma once
// Matrices of weights in bf16 as AMX's tiles want them, for processors that have these: packed when a forward pass
// first multiplies with them after an update, instead of in every product. (dy w takes them nearly as they lie: packing
// that, too, would cost as much memory again and save little.)
#include <vector>

#include "core/context.h"

namespace xlstm {

class PackedWeights {
 public:
  PackedWeights() = default;
  // For matrices inside `row`, (1, n), of bf16; takes as much memory as the row.
  PackedWeights(Arena& arena, Tensor row)
      : row_(row), packed_(arena.alloc("packed weights", DType::bf16, 1, row.cols)) {}

  // What was packed is of weights that there are no more.
  void forget() { matrices_.clear(); }

  // Where w is packed as the right operand of x w^T, or, if it is not `ready`, is to be packed now. Null if there is no
  // place for it: it lies elsewhere, or has sides that are not whole panels.
  struct Place {
    std::uint32_t* words = nullptr;
    bool ready = false;
  };
  Place take(const Tensor& w);

 private:
  struct Matrix {
    i64 at, rows, cols;
  };
  Tensor row_, packed_;
  std::vector<Matrix> matrices_;  // that are packed
};

// Whoever writes weights says so.
inline void weights_changed(Context& ctx) {
  if (ctx.packed) ctx.packed->forget();
}

}  // namespace xlstm
