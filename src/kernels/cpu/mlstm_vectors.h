#pragma once
// The products of the cell in registers (small_gemm.h), of elements of any type. mlstm_tiles.h has the same on AMX.
#include "kernels/cpu/mlstm_products.h"

namespace xlstm::XL_CPU {

// to[r][0..cols) = from[r][0..cols) * scale[r] (without scale: * 1), then zeros up to padded_cols
template <class T, class E>
void pack(Rows<T> to, Rows<E> from, i64 rows, i64 cols, const T* scale = nullptr) {
  const std::size_t rest = static_cast<std::size_t>(mlstm_pad(cols) - cols) * sizeof(T);
  for (i64 r = 0; r < rows; ++r) {
    const E* in = from[r];
    const T factor = scale ? scale[r] : T(1);
    T* out = to[r];
    for_lanes<T>(cols, [&](i64 j, i64 w) { store(out + j, load(in + j, w) * Vec<T>(factor), w); });
    std::memset(out + cols, 0, rest);
  }
}

template <class E>
class VectorProducts {
 public:
  using Element = E;
  using T = ArithmeticOf<E>;
  static constexpr bool kTiles = false;

  struct Operand {
    Rows<T> values, transposed;
  };

  VectorProducts(const MlstmWorkspace&, T* slice) : slice_(slice) {}

  Operand operand(const MlstmOperand& at) const {
    Operand o;
    if (at.values >= 0) o.values = {slice_ + at.values, at.cols};
    if (at.transposed >= 0) o.transposed = {slice_ + at.transposed, at.rows};
    return o;
  }

  void load(Operand& o, Given<E> from, unsigned forms = ~0u) const {
    if (o.values.data) pack(o.values, from.rows, from.height, from.width, from.factors);
    if (o.transposed.data && (forms & MlstmForm::right_t)) transpose(o.transposed, from.rows, from.height, from.width);
  }
  void take(Operand& o, Rows<T> values, i64 rows, i64 cols) const {
    o.values = values;
    if (o.transposed.data) transpose(o.transposed, values, rows, cols);
  }

  void lower(Rows<T> out, const Operand& a, const Operand& b, i64 rows, i64 terms) const {
    for_tiles<T>(rows, mlstm_pad(rows), [&](auto& tile) {
      if (tile.j >= tile.i + kTileRows) return;
      tile.add(plain(a.values), b.transposed, 0, terms);
      tile.store(out);
    });
  }

  template <class Out>
  void add_up(Rows<Out> out, i64 rows, i64 cols, const FromState<Operand, T>& state,
              const FromChunk<Operand, T>& chunk) const {
    const Rows<T> c = state.transposed ? state.c.transposed : state.c.values;
    for_tiles<T>(rows, mlstm_pad(cols), [&](auto& tile) {
      if (std::max(tile.i, state.begin) < std::min(tile.i + kTileRows, state.end)) {
        tile.add(plain(state.x.values), c, 0, state.terms);
        tile.scale_rows(state.factors);
      }
      if (chunk.transposed)
        tile.add(transposed(chunk.weights.values), chunk.u.values, tile.i, rows);
      else
        tile.add(plain(chunk.weights.values), chunk.u.values, static_cast<i64>(chunk.start[tile.i]),
                 std::min(rows, tile.i + kTileRows));
      tile.store(out, rows, cols);
    });
  }

  void accumulate(Rows<T> to, Rows<T> from, T decay, const Operand& a, const Operand& b, i64 rows, i64 cols, i64 begin,
                  i64 end) const {
    for_tiles<T>(rows, mlstm_pad(cols), [&](auto& tile) {
      tile.load(from, decay);
      tile.add(transposed(a.values), b.values, begin, end);
      tile.store(to);
    });
  }

 private:
  T* slice_;
};

}  // namespace xlstm::XL_CPU
