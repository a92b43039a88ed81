#pragma once
// Operands as AMX's tiles want them. A tile holds 16 x 16 words; a word is two neighbouring terms of one row of a left
// operand, or of one column of a right one, in bf16. Terms and rows that there are not are zeros.
#include "kernels/cpu/operand.h"

namespace xlstm::XL_CPU {

// Into how many bf16 an element is split: f32 = high + middle + low, to 24 bits (docs/numerics.md).
template <class E>
constexpr int kParts = std::is_same_v<E, float> ? 3 : 1;

constexpr i64 kTileSide = 16, kTileTerms = 2 * kTileSide, kTileWords = kTileSide * kTileSide;

template <int kCount>
struct Parts {
  HalfWords part[kCount];
};

// `n` elements, at most kTileSide
inline Parts<1> parts_of(const bf16* p, i64 n) {
  Parts<1> x{};
  std::memcpy(&x.part[0], p, n == kTileSide ? sizeof x : static_cast<std::size_t>(n) * sizeof(bf16));
  return x;
}
inline Parts<3> parts_of(const float* p, i64 n) {
  // What would round to infinity is cut off instead: the middle part takes the rest.
  constexpr float kLargest = 3.38953139e38f;
  const Vec<float> x = load(p, n);
  const HalfWords high = narrow(min(max(x, Vec<float>(-kLargest)), Vec<float>(kLargest)));
  const Vec<float> rest = x - widen(high);
  const HalfWords middle = narrow(rest);
  return {high, middle, narrow(rest - widen(middle))};
}

template <int... kLane>
Vec<float> interleave(HalfWords even, HalfWords odd, std::integer_sequence<int, kLane...>) {
  return Vec<float>(reinterpret_cast<Vec<float>::V>(
      __builtin_shufflevector(even, odd, (kLane % 2 * static_cast<int>(kTileSide) + kLane / 2)...)));
}
template <int... kLane>
Vec<float> concatenate(HalfWords low, HalfWords high, std::integer_sequence<int, kLane...>) {
  return Vec<float>(reinterpret_cast<Vec<float>::V>(__builtin_shufflevector(low, high, kLane...)));
}

// The words of terms [k, k + terms) of rows (columns) [x, x + width) of an operand, one square per part: element
// (i, p) is word p of row x + i, or with `terms_first` (p, i) is. from(r, j, n) gives elements [j, j + n) of row r in
// memory, where rows are terms, or not.
template <int kCount, class From>
void pack_square(std::uint32_t* to, i64 stride, const From& from, bool rows_are_terms, bool terms_first, i64 x,
                 i64 width, i64 k, i64 terms) {
  constexpr auto kLanes = std::make_integer_sequence<int, static_cast<int>(kTileTerms)>{};
  static_assert(Vec<float>::kWidth == kTileSide);
  Vec<float> square[kCount][kTileSide];
  for (i64 i = 0; i < kTileSide; ++i) {
    Parts<kCount> first{}, second{};
    if (rows_are_terms) {
      if (2 * i < terms) first = from(k + 2 * i, x, width);
      if (2 * i + 1 < terms) second = from(k + 2 * i + 1, x, width);
    } else if (i < width) {
      first = from(x + i, k, std::min(terms, kTileSide));
      if (terms > kTileSide) second = from(x + i, k + kTileSide, terms - kTileSide);
    }
    for (int part = 0; part < kCount; ++part)
      square[part][i] = rows_are_terms ? interleave(first.part[part], second.part[part], kLanes)
                                       : concatenate(first.part[part], second.part[part], kLanes);
  }
  for (int part = 0; part < kCount; ++part, to += stride) {
    if (rows_are_terms != terms_first) transpose_square(square[part]);
    for (i64 i = 0; i < kTileSide; ++i) square[part][i].store(reinterpret_cast<float*>(to) + i * kTileSide);
  }
}

// Rows of a left operand (columns of a right one) of the result in registers, which is 2 x 2 tiles.
constexpr i64 kPanelSide = 2 * kTileSide;

// kPanelSide rows of a left operand (columns of a right one) from x on, `width` of which are there: for each step of
// kTileTerms terms from k on the tiles of every part, part by part both of them.
template <int kCount, class From>
void pack_panel(std::uint32_t* to, const From& from, bool left, bool rows_are_terms, i64 x, i64 width, i64 k, i64 terms,
                i64 steps) {
  for (i64 s = 0; s < steps; ++s, to += kCount * 2 * kTileWords, k += kTileTerms, terms -= kTileTerms)
    for (i64 half = 0; half < 2; ++half)
      pack_square<kCount>(to + half * kTileWords, 2 * kTileWords, from, rows_are_terms, !left, x + half * kTileSide,
                          std::clamp<i64>(width - half * kTileSide, 0, kTileSide), k,
                          std::clamp<i64>(terms, 0, kTileTerms));
}

}  // namespace xlstm::XL_CPU
