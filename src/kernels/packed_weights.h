#pragma once
// Matrices of weights in bf16 as AMX's tiles want them, for processors that have these: packed when they are first
// multiplied with after an update, instead of in every product.
#include <array>
#include <vector>

#include "core/context.h"

namespace xlstm {

class PackedWeights {
 public:
  PackedWeights() = default;
  // For matrices inside `row`, (1, n). Takes as much memory as the row, twice if there is a backward pass.
  PackedWeights(Arena& arena, Tensor row, bool backward);

  // What was packed is of weights that there are no more.
  void forget() { matrices_.clear(); }

  // Where w, right operand of x w^T (transposed) or of dy w, is packed, or is to be now if it is not `ready`. Null if
  // there is no place for it: it lies elsewhere, has sides that are not whole panels, or the pass was not planned.
  struct Place {
    std::uint32_t* words = nullptr;
    bool ready = false;
  };
  Place take(const Tensor& w, bool transposed);

 private:
  struct Matrix {
    i64 at, rows, cols;
    std::array<bool, 2> ready = {};
  };
  Tensor row_;
  std::array<Tensor, 2> packed_;  // for dy w; for x w^T
  std::vector<Matrix> matrices_;
};

// Whoever writes weights says so.
inline void weights_changed(Context& ctx) {
  if (ctx.packed) ctx.packed->forget();
}

}  // namespace xlstm
