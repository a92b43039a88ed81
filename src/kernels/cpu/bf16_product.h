#pragma once
// Products of bf16 matrices by f32 arithmetic, for processors without matrix instructions: AVX-512's own dot product of
// bf16 has half the rate of f32 (docs/numerics.md). One tile of the result by one thread: blocks of both operands are
// widened into this thread's scratch memory, as the registers' kernel wants to read them, and stay in cache.
#include "kernels/cpu/operand.h"
#include "kernels/thread_scratch.h"

namespace xlstm::XL_CPU {

struct ProductBlocks {
#if defined(__AVX512F__)
  static constexpr i64 kRows = 12, kVectors = 2;  // of the result in registers: 24 of 32
#else
  static constexpr i64 kRows = 6, kVectors = 2;  // 12 of 16
#endif
  static constexpr i64 kWidth = Vec<float>::kWidth, kPanel = kVectors * kWidth;
  static constexpr i64 kDepth = 512, kLeftRows = 96, kColumns = 256, kTileRows = 512;
  static constexpr i64 kLeftStride = kDepth + 16;  // off powers of two
  static constexpr i64 kLeft = kLeftRows * kLeftStride, kRight = kDepth * kColumns, kSums = kTileRows * kColumns;
  static_assert((kLeft + kRight + kSums) * static_cast<i64>(sizeof(float)) <= kProductScratchBytes);
  static_assert(kLeftRows % kRows == 0 && kColumns % kPanel == 0 && kLeft >= kDepth * kLeftRows);
};

// Rows [i, i + rows) and terms [k, k + depth) of the left operand: element (i, k) at [i kLeftStride + k], or if it lies
// transposed at [k kLeftRows + i].
inline void widen_left(float* to, const Operand<bf16>& a, i64 i, i64 rows, i64 k, i64 depth) {
  const i64 outer = a.transposed ? depth : rows, inner = a.transposed ? rows : depth;
  const i64 stride = a.transposed ? ProductBlocks::kLeftRows : ProductBlocks::kLeftStride;
  const bf16* from = a.data + (a.transposed ? k * a.stride + i : i * a.stride + k);
  for (i64 r = 0; r < outer; ++r)
    for_lanes<float>(inner, [&](i64 j, i64 n) { load(from + r * a.stride + j, n).store(to + r * stride + j); });
}

// Terms [k, k + depth) and columns [j, j + cols) of the right operand: panels of kPanel columns, padded with zeros.
inline void widen_right(float* to, const Operand<bf16>& b, i64 k, i64 depth, i64 j, i64 cols) {
  using P = ProductBlocks;
  for (i64 panel = 0; panel < cols; panel += P::kPanel, to += depth * P::kPanel)
    for (i64 v = 0; v < P::kPanel; v += P::kWidth) {
      const i64 first = j + panel + v, width = std::clamp<i64>(cols - panel - v, 0, P::kWidth);
      if (!b.transposed) {
        for (i64 p = 0; p < depth; ++p) load(b.data + (k + p) * b.stride + first, width).store(to + p * P::kPanel + v);
        continue;
      }
      for (i64 p = 0; p < depth; p += P::kWidth) {
        const i64 terms = std::min(P::kWidth, depth - p);
        Vec<float> square[P::kWidth];
        for (i64 c = 0; c < P::kWidth; ++c)
          square[c] = c < width ? load(b.data + (first + c) * b.stride + k + p, terms) : Vec<float>(0.0f);
        transpose_square(square);
        for (i64 r = 0; r < terms; ++r) square[r].store(to + (p + r) * P::kPanel + v);
      }
    }
}

// kRows x kPanel of the result, summed over `depth` terms in registers, to sums (+)=.
template <i64 kRowStride, i64 kDepthStride>
void multiply_panel(const float* a, const float* b, i64 depth, float* sums, i64 ld, i64 rows, i64 cols, bool add) {
  using P = ProductBlocks;
  Vec<float>::V acc[P::kRows][P::kVectors] = {};
  for (i64 p = 0; p < depth; ++p) {
    Vec<float>::V right[P::kVectors];
#pragma GCC unroll 2
    for (i64 v = 0; v < P::kVectors; ++v) right[v] = Vec<float>::load(b + p * P::kPanel + v * P::kWidth).v;
#pragma GCC unroll 12
    for (i64 r = 0; r < P::kRows; ++r)
#pragma GCC unroll 2
      for (i64 v = 0; v < P::kVectors; ++v) acc[r][v] += a[r * kRowStride + p * kDepthStride] * right[v];
  }
  for (i64 r = 0; r < std::min(rows, P::kRows); ++r)
    for (i64 v = 0; v < P::kVectors; ++v) {
      const i64 width = std::clamp<i64>(cols - v * P::kWidth, 0, P::kWidth);
      float* const at = sums + r * ld + v * P::kWidth;
      if (width > 0) store(at, add ? load(at, width) + Vec<float>(acc[r][v]) : Vec<float>(acc[r][v]), width);
    }
}

// sums (rows, cols) (+)= left right, over the widened blocks
inline void multiply_blocks(const float* left, bool transposed, const float* right, i64 depth, float* sums, i64 ld,
                            i64 rows, i64 cols, bool add) {
  using P = ProductBlocks;
  for (i64 j = 0; j < cols; j += P::kPanel)
    for (i64 i = 0; i < rows; i += P::kRows) {
      const float* const b = right + j * depth;
      float* const to = sums + i * ld + j;
      if (transposed)
        multiply_panel<1, P::kLeftRows>(left + i, b, depth, to, ld, rows - i, cols - j, add);
      else
        multiply_panel<P::kLeftStride, 1>(left + i * P::kLeftStride, b, depth, to, ld, rows - i, cols - j, add);
    }
}

// Of at most kTileRows x kColumns: finish(sums, ld) gets what is not summed up in t.out.
template <class F>
void multiply_widened(const ProductTile<bf16>& t, F&& finish) {
  using P = ProductBlocks;
  float* const left = thread_scratch_of<float>(P::kLeft + P::kRight + P::kSums);
  float *const right = left + P::kLeft, *const sums = t.out ? t.out : right + P::kRight;
  const i64 ld = t.out ? t.ld : P::kColumns;
  for (i64 k = 0; k < t.terms; k += P::kDepth) {
    const i64 depth = std::min(P::kDepth, t.terms - k);
    widen_right(right, t.b, k, depth, t.n, t.cols);
    for (i64 i = 0; i < t.rows; i += P::kLeftRows) {
      const i64 height = std::min(P::kLeftRows, t.rows - i);
      widen_left(left, t.a, t.m + i, height, k, depth);
      multiply_blocks(left, t.a.transposed, right, depth, sums + i * ld, ld, height, t.cols,
                      k > 0 || (t.out && t.accumulate));
    }
  }
  if (!t.out) finish(static_cast<const float*>(sums), ld);
}

}  // namespace xlstm::XL_CPU
