#pragma once
#include <algorithm>
#include <utility>

#include "kernels/cpu/vec.h"

namespace xlstm::XL_CPU {

// A matrix of a product, in memory: element (i, k) of a left operand, (k, j) of a right one, with k the index that is
// summed over.
template <class E>
struct Operand {
  const E* data;
  i64 stride;       // between rows in memory
  bool transposed;  // left: rows in memory are k; right: rows in memory are j
};

// A rectangle of c = a b: `rows` from m on, `cols` from n on.
template <class E>
struct ProductTile {
  Operand<E> a, b;
  i64 terms, m, rows, n, cols;
  float* out;  // null: what is called at the end gets the sums
  i64 ld;
  bool accumulate;                          // out += instead of =
  const std::uint32_t* packed_b = nullptr;  // all of b as AMX's tiles want it; or null
};

// Lane j of row i becomes lane i of row j. Nothing but moves: any 32 bits do.
template <int kDistance, int... kLane>
void swap_halves(Vec<float>& a, Vec<float>& b, std::integer_sequence<int, kLane...>) {
  constexpr int kWidth = sizeof...(kLane);
  const auto x = a.v, y = b.v;
  a = __builtin_shufflevector(x, y, ((kLane & kDistance) == 0 ? kLane : kLane - kDistance + kWidth)...);
  b = __builtin_shufflevector(x, y, ((kLane & kDistance) == 0 ? kLane + kDistance : kLane + kWidth)...);
}
template <int kDistance = 1>
void transpose_square(Vec<float> (&x)[Vec<float>::kWidth]) {
  constexpr int kWidth = Vec<float>::kWidth;
  if constexpr (kDistance < kWidth) {
    for (int i = 0; i < kWidth; ++i)
      if ((i & kDistance) == 0)
        swap_halves<kDistance>(x[i], x[i + kDistance], std::make_integer_sequence<int, kWidth>{});
    transpose_square<2 * kDistance>(x);
  }
}

}  // namespace xlstm::XL_CPU
