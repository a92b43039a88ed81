#pragma once
// Products of small matrices that lie in cache. A Tile is a block of the result that stays in registers while a kernel
// sums products into it. Every element is summed in the order of the depth, so the shape of the tile does not show in
// the bits.
#include <algorithm>

#include "kernels/cpu/operand.h"

namespace xlstm::XL_CPU {

#if defined(__AVX512F__)
constexpr int kTileVectors = 4;  // 16 of 32 registers hold sums
#else
constexpr int kTileVectors = 2;  // 8 of 16
#endif
constexpr i64 kTileRows = 4;

// A row-major matrix.
template <class T>
struct Rows {
  T* data = nullptr;
  i64 ld = 0;
  T* operator[](i64 r) const { return data + r * ld; }
  operator Rows<const T>() const { return {data, ld}; }
};

// The left operand of a product: element (i, p) is data[i * row + p * depth].
template <class T>
struct Left {
  const T* data;
  i64 row, depth;
};
template <class T>
Left<std::remove_const_t<T>> plain(Rows<T> a) {
  return {a.data, a.ld, 1};
}
template <class T>
Left<std::remove_const_t<T>> transposed(Rows<T> a) {
  return {a.data, 1, a.ld};
}

// kTileRows x W vectors of a result, its upper left element being (i, j). Operands may be read, and whole tiles are
// stored, up to the padded sides of their matrices.
template <class T, int W>
struct Tile {
  using V = typename Vec<T>::V;
  static constexpr i64 kLanes = Vec<T>::kWidth;
  static constexpr i64 kColumns = W * kLanes;

  i64 i, j;
  V acc[kTileRows][W] = {};

  // = factor * c
  void load(Rows<const T> c, T factor) {
    for (int r = 0; r < kTileRows; ++r)
      for (int w = 0; w < W; ++w) acc[r][w] = factor * Vec<T>::load(c[i + r] + j + w * kLanes).v;
  }

  // += a[., begin..end) b[begin..end, .)
  void add(Left<T> a, Rows<const T> b, i64 begin, i64 end) {
    const T* left = a.data + i * a.row + begin * a.depth;
    const T* right = b[begin] + j;
    for (i64 p = begin; p < end; ++p, left += a.depth, right += b.ld) {
      V column[W];
      for (int w = 0; w < W; ++w) column[w] = Vec<T>::load(right + w * kLanes).v;
      for (int r = 0; r < kTileRows; ++r)
        for (int w = 0; w < W; ++w) acc[r][w] += left[r * a.row] * column[w];
    }
  }

  // row i *= factors[i]
  void scale_rows(const T* factors) {
    for (int r = 0; r < kTileRows; ++r)
      for (int w = 0; w < W; ++w) acc[r][w] *= factors[i + r];
  }

  void store(Rows<T> c) const {
    for (int r = 0; r < kTileRows; ++r)
      for (int w = 0; w < W; ++w) Vec<T>(acc[r][w]).store(c[i + r] + j + w * kLanes);
  }

  // Into a matrix without padding, of any element type: nothing beyond (rows, cols) is touched.
  template <class E>
  void store(Rows<E> c, i64 rows, i64 cols) const {
    for (i64 r = 0; r < kTileRows && i + r < rows; ++r)
      for (int w = 0; w < W; ++w) {
        const i64 at = j + w * kLanes, width = std::min(cols - at, kLanes);
        if (width > 0) XL_CPU::store(c[i + r] + at, Vec<T>(acc[r][w]), width);
      }
  }
};

// body(tile) for the tiles that cover (rows, cols); cols is a multiple of 16.
template <class T, class F>
void for_tiles(i64 rows, i64 cols, F&& body) {
  i64 j = 0;
  const auto columns = [&]<int W>() {
    for (; j + Tile<T, W>::kColumns <= cols; j += Tile<T, W>::kColumns)
      for (i64 i = 0; i < rows; i += kTileRows) {
        Tile<T, W> tile{i, j};
        body(tile);
      }
  };
  if constexpr (kTileVectors == 4) columns.template operator()<4>();
  columns.template operator()<2>();
  columns.template operator()<1>();
}

// out[c][r] = in[r][c]
template <class E>
void transpose(Rows<float> out, Rows<E> in, i64 rows, i64 cols) {
  constexpr i64 kWidth = Vec<float>::kWidth;
  Vec<float> square[kWidth];
  for (i64 r = 0; r < rows; r += kWidth)
    for (i64 c = 0; c < cols; c += kWidth) {
      const i64 height = std::min(kWidth, rows - r), width = std::min(kWidth, cols - c);
      for (i64 i = 0; i < kWidth; ++i) square[i] = i < height ? load(in[r + i] + c, width) : Vec<float>(0.0f);
      transpose_square(square);
      for (i64 i = 0; i < width; ++i) store(out[c + i] + r, square[i], height);
    }
}
inline void transpose(Rows<double> out, Rows<double> in, i64 rows, i64 cols) {
  for (i64 r = 0; r < rows; ++r)
    for (i64 c = 0; c < cols; ++c) out[c][r] = in[r][c];
}

}  // namespace xlstm::XL_CPU
