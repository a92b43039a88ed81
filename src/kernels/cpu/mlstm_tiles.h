#pragma once
// The products of the cell on AMX's tiles, of bf16: whatever is multiplied is rounded to bf16 when it is packed, sums
// are f32 (docs/numerics.md). Packed operands are whole: what a chunk does not have is zeros.
#include <bit>

#include "kernels/cpu/mlstm_products.h"
#include "kernels/cpu/tile_product.h"

namespace xlstm::XL_CPU {

class TileProducts {
 public:
  using Element = bf16;
  using T = float;
  static constexpr bool kTiles = true;

  struct Operand {
    std::uint32_t* packed[MlstmForm::count];
    i64 rows, cols;
    std::uint32_t* form(unsigned f) const { return packed[std::countr_zero(f)]; }
  };

  TileProducts(const MlstmWorkspace& ws, float* slice) : ws_(ws), slice_(slice) {}

  Operand operand(const MlstmOperand& at) const {
    Operand o{{}, at.rows, at.cols};
    for (unsigned f = 0; f < MlstmForm::count; ++f)
      if (at.packed[f] >= 0) o.packed[f] = reinterpret_cast<std::uint32_t*>(slice_ + at.packed[f]);
    return o;
  }

  void load(const Operand& o, const Given<bf16>& from, unsigned forms = ~0u) const {
    if (from.factors)
      pack_forms(o, from.height, from.width, forms, [&](i64 r, i64 j, i64 n) {
        return Parts<1>{narrow(XL_CPU::load(from.rows[r] + j, n) * Vec<float>(from.factors[r]))};
      });
    else
      pack_forms(o, from.height, from.width, forms, [&](i64 r, i64 j, i64 n) { return parts_of(from.rows[r] + j, n); });
  }
  void take(const Operand& o, Rows<float> values, i64 rows, i64 cols) const {
    pack_forms(o, rows, cols, ~0u,
               [&](i64 r, i64 j, i64 n) { return Parts<1>{narrow(XL_CPU::load(values[r] + j, n))}; });
  }

  void lower(Rows<float> out, const Operand& a, const Operand& b, i64, i64) const {
    multiply_on_tiles({.left = a.form(MlstmForm::left),
                       .right = b.form(MlstmForm::right_t),
                       .rows = a.rows,
                       .cols = b.rows,
                       .steps = a.cols / kTileTerms,
                       .zeros = Zeros::above_result,
                       .sums = out.data,
                       .ld = out.ld,
                       .add = false});
  }

  template <class Out>
  void add_up(Rows<Out> out, i64 rows, i64 cols, const FromState<Operand, float>& state,
              const FromChunk<Operand, float>& chunk) const {
    const Rows<float> sums{slice_ + ws_.sums, chunk.u.cols};
    const bool seen = state.begin < state.end;
    if (seen) {
      multiply_on_tiles({.left = state.x.form(MlstmForm::left),
                         .right = state.c.form(state.transposed ? MlstmForm::right_t : MlstmForm::right),
                         .rows = state.x.rows,
                         .cols = sums.ld,
                         .steps = state.x.cols / kTileTerms,
                         .sums = sums.data,
                         .ld = sums.ld,
                         .add = false});
      for (i64 i = 0; i < rows; ++i)
        scale(sums[i], sums[i], i < state.begin || i >= state.end ? 0 : state.factors[i], sums.ld);
    }
    multiply_on_tiles({.left = chunk.weights.form(chunk.transposed ? MlstmForm::left_t : MlstmForm::left),
                       .right = chunk.u.form(MlstmForm::right),
                       .rows = chunk.weights.rows,
                       .cols = sums.ld,
                       .steps = chunk.u.rows / kTileTerms,
                       .zeros = chunk.transposed ? Zeros::below_left : Zeros::above_left,
                       .sums = sums.data,
                       .ld = sums.ld,
                       .add = seen});
    for (i64 i = 0; i < rows; ++i)
      for_lanes<float>(cols, [&](i64 j, i64 n) { XL_CPU::store(out[i] + j, XL_CPU::load(sums[i] + j, n), n); });
  }

  void accumulate(Rows<float> to, Rows<float> from, float decay, const Operand& a, const Operand& b, i64, i64, i64,
                  i64) const {
    for (i64 r = 0; r < a.cols; ++r) scale(to[r], from[r], decay, to.ld);
    multiply_on_tiles({.left = a.form(MlstmForm::left_t),
                       .right = b.form(MlstmForm::right),
                       .rows = a.cols,
                       .cols = b.cols,
                       .steps = a.rows / kTileTerms,
                       .sums = to.data,
                       .ld = to.ld,
                       .add = true});
  }

 private:
  using Zeros = PackedProduct::Zeros;

  // 0 where the factor is, even if x is not finite
  static void scale(float* to, const float* x, float factor, i64 n) {
    if (factor == 0) return std::fill_n(to, n, 0.0f), void();
    for (i64 j = 0; j < n; j += Vec<float>::kWidth) (Vec<float>::load(x + j) * Vec<float>(factor)).store(to + j);
  }

  // Each form of (rows, cols) elements of which from(r, j, n) gives n of row r from j on
  template <class From>
  static void pack_forms(const Operand& o, i64 rows, i64 cols, unsigned forms, const From& from) {
    for (const unsigned f : {MlstmForm::left, MlstmForm::left_t, MlstmForm::right, MlstmForm::right_t}) {
      if (!(forms & f) || !o.form(f)) continue;
      const bool is_left = f == MlstmForm::left || f == MlstmForm::left_t;
      const bool rows_are_terms = f == MlstmForm::left_t || f == MlstmForm::right;
      const i64 sides = rows_are_terms ? o.cols : o.rows, steps = (rows_are_terms ? o.rows : o.cols) / kTileTerms;
      const i64 width = rows_are_terms ? cols : rows, terms = rows_are_terms ? rows : cols;
      for (i64 x = 0; x < sides; x += kPanelSide)
        pack_panel<1>(o.form(f) + x / kPanelSide * steps * TileBlocks<bf16>::kStepWords, from, is_left, rows_are_terms,
                      x, width - x, 0, terms, steps);
    }
  }

  const MlstmWorkspace& ws_;
  float* slice_;
  TilesInUse tiles_;
};

}  // namespace xlstm::XL_CPU
