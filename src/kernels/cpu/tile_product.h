#pragma once
// Products on AMX's tiles (tiles.h): bf16 as it is, f32 as three bf16 per element, of whose nine products the six that
// f32 can see are summed. One rectangle of the result by one thread; blocks of both operands are packed into this
// thread's scratch memory (tile_pack.h), where they stay in the L2 cache.
#include <functional>

#include "kernels/cpu/tile_pack.h"
#include "kernels/thread_scratch.h"

namespace xlstm::XL_CPU {

template <class E>
struct TileBlocks {
  static constexpr i64 kSide = kPanelSide;
  static constexpr i64 kDepth = std::is_same_v<E, float> ? 256 : 512, kRows = 512, kColumns = 512;
  static constexpr i64 kSteps = kDepth / kTileTerms;
  static constexpr i64 kStepWords = kParts<E> * 2 * kTileWords;  // of kSide rows: part by part, both tiles
  static constexpr i64 kPanelWords = kSteps * kStepWords;
  static constexpr i64 kLeft = kRows / kSide * kPanelWords, kRight = kPanelWords, kSums = kRows * kColumns;
  static_assert((kLeft + kRight + kSums) * 4 <= kProductScratchBytes);
};

// A panel of one of both operands of a product, as it lies in memory
template <class E>
void pack_operand(std::uint32_t* to, const Operand<E>& from, bool left, i64 x, i64 width, i64 k, i64 depth, i64 steps) {
  pack_panel<kParts<E>>(
      to, [&](i64 r, i64 j, i64 n) { return parts_of(from.data + r * from.stride + j, n); }, left,
      left == from.transposed, x, width, k, depth, steps);
}

// c (+)= one part of the left panel times one of the right one: registers 0 to 3 are c, 4 and 5 left, 6 and 7 right
template <class Tiles>
void multiply_part(const std::uint32_t* left, const std::uint32_t* right) {
  constexpr i64 kRowBytes = kTileSide * 4;
  Tiles::template load<4>(left, kRowBytes);
  Tiles::template load<5>(left + kTileWords, kRowBytes);
  Tiles::template load<6>(right, kRowBytes);
  Tiles::template load<7>(right + kTileWords, kRowBytes);
  Tiles::template multiply<0, 4, 6>();
  Tiles::template multiply<1, 4, 7>();
  Tiles::template multiply<2, 5, 6>();
  Tiles::template multiply<3, 5, 7>();
}

// sums (kSide, kSide) (+)= a panel of the left operand times one of the right one
template <class E, class Tiles>
void multiply_panels(const std::uint32_t* left, const std::uint32_t* right, i64 steps, float* sums, i64 ld, bool add) {
  const i64 bytes = ld * static_cast<i64>(sizeof(float));
  float* const lower = sums + kTileSide * ld;
  if (add) {
    Tiles::template load<0>(sums, bytes), Tiles::template load<1>(sums + kTileSide, bytes);
    Tiles::template load<2>(lower, bytes), Tiles::template load<3>(lower + kTileSide, bytes);
  } else {
    Tiles::template zero<0>(), Tiles::template zero<1>(), Tiles::template zero<2>(), Tiles::template zero<3>();
  }
  constexpr i64 kPart = 2 * kTileWords;
  for (i64 s = 0; s < steps; ++s, left += TileBlocks<E>::kStepWords, right += TileBlocks<E>::kStepWords) {
    if constexpr (kParts<E> == 3) {  // the smallest first
      for (const auto& [a, b] : {std::pair{2, 0}, {0, 2}, {1, 1}, {1, 0}, {0, 1}})
        multiply_part<Tiles>(left + a * kPart, right + b * kPart);
    }
    multiply_part<Tiles>(left, right);
  }
  Tiles::template store<0>(sums, bytes), Tiles::template store<1>(sums + kTileSide, bytes);
  Tiles::template store<2>(lower, bytes), Tiles::template store<3>(lower + kTileSide, bytes);
}

// The same where the result has fewer rows or columns: nothing beyond them is touched.
template <class E, class Tiles>
void multiply_edge(const std::uint32_t* left, const std::uint32_t* right, i64 steps, float* sums, i64 ld, i64 rows,
                   i64 cols, bool add) {
  constexpr i64 kSide = TileBlocks<E>::kSide;
  alignas(64) float square[kSide * kSide] = {};
  if (add)
    for (i64 r = 0; r < rows; ++r) std::copy_n(sums + r * ld, cols, square + r * kSide);
  multiply_panels<E, Tiles>(left, right, steps, square, kSide, add);
  for (i64 r = 0; r < rows; ++r) std::copy_n(square + r * kSide, cols, sums + r * ld);
}

// Of at most kRows x kColumns: finish(sums, ld) gets what is not summed up in t.out. Shape and flags alone decide over
// the bits.
template <class E, class Tiles>
void multiply_tiles(const ProductTile<E>& t, const std::function<void(const float* sums, i64 ld)>& finish) {
  using P = TileBlocks<E>;
  auto* const left = thread_scratch_of<std::uint32_t>(P::kLeft + P::kRight + P::kSums);
  std::uint32_t* const right = left + P::kLeft;
  float* const sums = t.out ? t.out : reinterpret_cast<float*>(right + P::kRight);
  const i64 ld = t.out ? t.ld : P::kColumns, whole_steps = (t.terms + kTileTerms - 1) / kTileTerms;
  const Tiles tiles;
  for (i64 k = 0; k < t.terms; k += P::kDepth) {
    const i64 depth = std::min(P::kDepth, t.terms - k), steps = (depth + kTileTerms - 1) / kTileTerms;
    const bool add = k > 0 || (t.out && t.accumulate);
    for (i64 i = 0; i < t.rows; i += P::kSide)
      pack_operand(left + i / P::kSide * P::kPanelWords, t.a, true, t.m + i, std::min(P::kSide, t.rows - i), k, depth,
                   steps);
    for (i64 j = 0; j < t.cols; j += P::kSide) {
      const i64 cols = std::min(P::kSide, t.cols - j);
      const std::uint32_t* of_b = right;
      if (t.packed_b)
        of_b = t.packed_b + (t.n + j) / P::kSide * whole_steps * P::kStepWords + k / kTileTerms * P::kStepWords;
      else
        pack_operand(right, t.b, false, t.n + j, cols, k, depth, steps);
      for (i64 i = 0; i < t.rows; i += P::kSide) {
        const i64 rows = std::min(P::kSide, t.rows - i);
        const std::uint32_t* const panel = left + i / P::kSide * P::kPanelWords;
        float* const to = sums + i * ld + j;
        if (rows == P::kSide && cols == P::kSide)
          multiply_panels<E, Tiles>(panel, of_b, steps, to, ld, add);
        else
          multiply_edge<E, Tiles>(panel, of_b, steps, to, ld, rows, cols, add);
      }
    }
  }
  if (!t.out) finish(sums, ld);
}

// sums (rows, cols) (+)= left right, of bf16 that is packed whole: panel by panel, each of `steps` steps. All sides are
// multiples of kPanelSide.
struct PackedProduct {
  enum class Zeros : std::uint8_t {  // blocks that are not looked at
    none,
    above_left,    // of the left operand, which is square: terms behind the row
    below_left,    // terms before it
    above_result,  // not computed
  };
  const std::uint32_t *left, *right;
  i64 rows, cols, steps;
  Zeros zeros = Zeros::none;
  float* sums;
  i64 ld;
  bool add;
};

template <class Tiles>
void multiply_packed(const PackedProduct& p) {
  using Zeros = PackedProduct::Zeros;
  static_assert(kPanelSide == kTileTerms);  // a panel of a square's rows is a step of its terms
  constexpr i64 kStep = TileBlocks<bf16>::kStepWords;
  for (i64 i = 0; i < p.rows / kPanelSide; ++i) {
    const i64 begin = p.zeros == Zeros::below_left ? i : 0, end = p.zeros == Zeros::above_left ? i + 1 : p.steps;
    const i64 columns = p.zeros == Zeros::above_result ? i + 1 : p.cols / kPanelSide;
    for (i64 j = 0; j < columns; ++j)
      multiply_panels<bf16, Tiles>(p.left + (i * p.steps + begin) * kStep, p.right + (j * p.steps + begin) * kStep,
                                   end - begin, p.sums + kPanelSide * (i * p.ld + j), p.ld, p.add);
  }
}

// With the processor's tiles (tile_product.cpp); tests put the emulated ones in their place.
void multiply_on_tiles(const ProductTile<bf16>& t, const std::function<void(const float* sums, i64 ld)>& finish);
void multiply_on_tiles(const ProductTile<float>& t, const std::function<void(const float* sums, i64 ld)>& finish);

// Small products one after another need this object around them: setting tiles up takes as long as some of these.
class TilesInUse {
 public:
  TilesInUse();
  ~TilesInUse();
  TilesInUse(const TilesInUse&) = delete;
  TilesInUse& operator=(const TilesInUse&) = delete;
};
void multiply_on_tiles(const PackedProduct& p);

}  // namespace xlstm::XL_CPU
