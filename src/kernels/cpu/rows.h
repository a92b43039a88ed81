#pragma once
// How the CPU ops cut their work: blocks of whole rows, or stripes of columns, by shape alone.
#include <algorithm>

#include "core/parallel.h"
#include "kernels/cpu/vec.h"
#include "kernels/thread_scratch.h"

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

// One pass over the rows of an op that also sums up columns. body(begin, end, sums) adds what rows [begin, end) give to
// `columns` sums that are 0 before its part; add(j, n, total) gets the totals of columns j, j + 1, ... Neither may ask
// for scratch memory: the sums lie in the caller's, and the caller takes its share of the work.
template <class T, class F, class G>
void sum_over_rows(i64 rows, i64 columns, F&& body, G&& add) {
  constexpr i64 kStripe = 256;
  const RowParts parts(rows);
  const i64 stride = RowParts::stride(columns);
  T* const sums = thread_scratch_of<T>(parts.count * stride);
  parallel_blocks(rows, parts.size, [&](i64 begin, i64 end) {
    T* const own = sums + begin / parts.size * stride;
    std::fill_n(own, columns, T(0));
    body(begin, end, own);
  });
  parallel_blocks(columns, kStripe, [&](i64 begin, i64 end) {
    for_lanes<T>(end - begin, [&](i64 j, i64 n) {
      Vec<T> total(T(0));
      for (i64 part = 0; part < parts.count; ++part) total += load(sums + part * stride + begin + j, n);
      add(begin + j, n, total);
    });
  });
}
template <class T>
void add_to(T* at, Vec<T> x, i64 n) {
  store(at, load(at, n) + x, n);
}

}  // namespace xlstm::XL_CPU
