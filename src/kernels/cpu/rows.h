#pragma once
// How the CPU ops cut their work: blocks of whole rows, or stripes of columns, by shape alone.
#include <algorithm>

#include "core/parallel.h"
#include "kernels/cpu/vec.h"

namespace xlstm::XL_CPU {

// Row pointers of a tensor whose dtype was checked once: loops over rows neither check nor throw.
template <class T>
class RowsOf {
 public:
  explicit RowsOf(const Tensor& t) : base_(t.row<T>()), stride_(t.row_stride) {}
  T* operator[](i64 r) const { return base_ + r * stride_; }

 private:
  T* base_;
  i64 stride_;
};

inline void check_shape(const Tensor& t, i64 rows, i64 cols, DType dtype) {
  XL_CHECK(t.rows == rows && t.cols == cols, "expected ({}, {}), got ({}, {})", rows, cols, t.rows, t.cols);
  XL_CHECK(t.dtype == dtype, "expected {}, got {}", name_of(dtype), name_of(t.dtype));
}

// body(r) for every row; a task is a block of rows of about 2^14 elements: enough to be worth a thread.
template <class F>
void for_rows(i64 rows, i64 cols, F&& body) {
  const i64 block = std::max<i64>(1, (i64{1} << 14) / std::max<i64>(1, cols));
  parallel_blocks(rows, block, [&](i64 begin, i64 end) {
    for (i64 r = begin; r < end; ++r) body(r);
  });
}

// body(r, begin, end) for runs of columns that cover every row: for elementwise ops, where one row may be a whole
// model.
template <class F>
void for_spans(i64 rows, i64 cols, F&& body) {
  constexpr i64 kSpan = 1 << 14;
  const i64 spans = (cols + kSpan - 1) / kSpan;
  for_rows(rows * spans, std::min(cols, kSpan), [&](i64 task) {
    const i64 begin = task % spans * kSpan;
    body(task / spans, begin, std::min(cols, begin + kSpan));
  });
}

// out[j ...] += sum over rows of term(r, j, lanes), for N vectors of columns from j on, the last `lanes` wide. Blocks
// of 64 rows are summed first: fewer roundings per element than one long chain.
template <class T, int N, class F>
void add_stripe_sums(T* out, i64 j, i64 lanes, i64 rows, F&& term) {
  constexpr i64 kBlock = 64, kWidth = Vec<T>::kWidth;
  Vec<T> total[N];
  for (auto& t : total) t = Vec<T>(T(0));
  for (i64 begin = 0; begin < rows; begin += kBlock) {
    Vec<T> block[N];
    for (auto& b : block) b = Vec<T>(T(0));
    for (i64 r = begin; r < std::min(rows, begin + kBlock); ++r)
      for (int n = 0; n < N; ++n) block[n] += term(r, j + n * kWidth, lanes);
    for (int n = 0; n < N; ++n) total[n] += block[n];
  }
  for (int n = 0; n < N; ++n) {
    T* at = out + j + n * kWidth;
    store(at, load(at, lanes) + total[n], lanes);
  }
}

// out_j += sum over rows of term_j(r), for a (1, cols) tensor: the gradient of a parameter that every row shares.
// term(r, j, lanes) yields the terms of `lanes` columns from j on.
template <class T, class F>
void add_column_sums(Tensor out, i64 rows, F&& term) {
  constexpr i64 kWidth = Vec<T>::kWidth;
  constexpr int kVectors = 4;
  T* const to = out.row<T>();
  parallel_blocks(out.cols, kVectors * kWidth, [&](i64 begin, i64 end) {
    if (end - begin == kVectors * kWidth) return add_stripe_sums<T, kVectors>(to, begin, kWidth, rows, term);
    for (i64 j = begin; j < end; j += kWidth) add_stripe_sums<T, 1>(to, j, std::min(kWidth, end - j), rows, term);
  });
}

}  // namespace xlstm::XL_CPU
