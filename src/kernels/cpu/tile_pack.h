#pragma once
// Operands as AMX's tiles want them. A tile holds 16 x 16 words; a word is two neighbouring terms of one row of a left
// operand, or of one column of a right one, in bf16. Terms and rows that there are not are zeros.
#include "kernels/cpu/operand.h"

namespace xlstm::XL_CPU {

// Into how many bf16 an element is split: f32 = high + middle + low, to 24 bits (docs/numerics.md).
template <class E>
constexpr int kParts = std::is_same_v<E, float> ? 3 : 1;

constexpr i64 kTileSide = 16, kTileTerms = 2 * kTileSide, kTileWords = kTileSide * kTileSide;

template <class E>
struct Parts {
  HalfWords part[kParts<E>];
};

// `width` elements, at most kTileSide
inline Parts<bf16> parts_of(const bf16* p, i64 width) {
  Parts<bf16> x{};
  std::memcpy(&x.part[0], p, width == kTileSide ? sizeof x : static_cast<std::size_t>(width) * sizeof(bf16));
  return x;
}
inline Parts<float> parts_of(const float* p, i64 width) {
  // What would round to infinity is cut off instead: the middle part takes the rest.
  constexpr float kLargest = 3.38953139e38f;
  const Vec<float> x = load(p, width);
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
// (i, p) is word p of row x + i, or with `terms_first` (p, i) is.
template <class E>
void pack_square(std::uint32_t* to, i64 stride, const Operand<E>& from, bool rows_are_terms, bool terms_first, i64 x,
                 i64 width, i64 k, i64 terms) {
  constexpr auto kLanes = std::make_integer_sequence<int, static_cast<int>(kTileTerms)>{};
  static_assert(Vec<float>::kWidth == kTileSide);
  Vec<float> square[kParts<E>][kTileSide];
  const E* const at = rows_are_terms ? from.data + k * from.stride + x : from.data + x * from.stride + k;
  for (i64 i = 0; i < kTileSide; ++i) {
    Parts<E> first{}, second{};
    if (rows_are_terms) {
      if (2 * i < terms) first = parts_of(at + 2 * i * from.stride, width);
      if (2 * i + 1 < terms) second = parts_of(at + (2 * i + 1) * from.stride, width);
    } else if (i < width) {
      first = parts_of(at + i * from.stride, std::min(terms, kTileSide));
      if (terms > kTileSide) second = parts_of(at + i * from.stride + kTileSide, terms - kTileSide);
    }
    for (int part = 0; part < kParts<E>; ++part)
      square[part][i] = rows_are_terms ? interleave(first.part[part], second.part[part], kLanes)
                                       : concatenate(first.part[part], second.part[part], kLanes);
  }
  for (int part = 0; part < kParts<E>; ++part, to += stride) {
    if (rows_are_terms != terms_first) transpose_square(square[part]);
    for (i64 i = 0; i < kTileSide; ++i) square[part][i].store(reinterpret_cast<float*>(to) + i * kTileSide);
  }
}

}  // namespace xlstm::XL_CPU
