#pragma once
// c = a b^T with few rows of a, as in generation: what counts is to read b once, from where it lies.
#include "kernels/cpu/operand.h"

namespace xlstm::XL_CPU {

constexpr i64 kFewRows = 4, kFewColumns = 4;
// Of bf16, kFewRows at a time. With more, b is better packed: generating at the tiny shape was 1.4 times as fast this
// way with 16 prompts, and 0.8 times with 32.
constexpr i64 kMostFewRows = 20;

// sums[i][j]: row i of a times row j of b, for kFewColumns rows of b, `columns` of which are there. Each is summed in
// lanes, so neither kRows nor the number of columns shows in the bits.
template <i64 kRows, class E>
void multiply_few_columns(const E* a, i64 a_stride, const E* b, i64 b_stride, i64 columns, i64 terms,
                          float (&sums)[kFewRows][kFewColumns]) {
  Vec<float> lanes_of[kRows][kFewColumns];
  for (auto& row : lanes_of)
    for (auto& sum : row) sum = Vec<float>(0.0f);
  const E* row[kFewColumns];
  for (i64 j = 0; j < kFewColumns; ++j) row[j] = b + std::min(j, columns - 1) * b_stride;
  for_lanes<float>(terms, [&](i64 k, i64 n) {
    Vec<float> left[kRows];
    for (i64 i = 0; i < kRows; ++i) left[i] = load(a + i * a_stride + k, n);
    for (i64 j = 0; j < kFewColumns; ++j) {
      __builtin_prefetch(row[j] + kFewColumns * b_stride + k);  // rows are too short for the processor to see it coming
      const Vec<float> right = load(row[j] + k, n);
      for (i64 i = 0; i < kRows; ++i) lanes_of[i][j] += left[i] * right;
    }
  });
  for (i64 i = 0; i < kRows; ++i)
    for (i64 j = 0; j < kFewColumns; ++j) sums[i][j] = lanes_of[i][j].sum();
}

// The same for `rows` of at most kFewRows
template <class E>
void multiply_few_rows(i64 rows, const E* a, i64 a_stride, const E* b, i64 b_stride, i64 columns, i64 terms,
                       float (&sums)[kFewRows][kFewColumns]) {
  switch (rows) {
    case 1: return multiply_few_columns<1>(a, a_stride, b, b_stride, columns, terms, sums);
    case 2: return multiply_few_columns<2>(a, a_stride, b, b_stride, columns, terms, sums);
    case 3: return multiply_few_columns<3>(a, a_stride, b, b_stride, columns, terms, sums);
    default: return multiply_few_columns<kFewRows>(a, a_stride, b, b_stride, columns, terms, sums);
  }
}

}  // namespace xlstm::XL_CPU
