#include "kernels/ops.h"

namespace xlstm {

void check_product(const Tensor& c, const Tensor& a, const Tensor& b, MatmulFlags flags) {
  const i64 terms = flags.transpose_a ? a.rows : a.cols;
  const auto expect = [](const char* name, const Tensor& t, i64 rows, i64 cols) {
    XL_CHECK(t.rows == rows && t.cols == cols, "{} is ({}, {}), expected ({}, {})", name, t.rows, t.cols, rows, cols);
  };
  expect("a", a, flags.transpose_a ? terms : c.rows, flags.transpose_a ? c.rows : terms);
  expect("b", b, flags.transpose_b ? c.cols : terms, flags.transpose_b ? terms : c.cols);
  XL_CHECK(terms > 0, "a product over no terms");
  XL_CHECK(a.dtype == b.dtype && (c.dtype == a.dtype || (a.dtype == DType::bf16 && c.dtype == DType::f32)),
           "a product of {} and {} into {}", name_of(a.dtype), name_of(b.dtype), name_of(c.dtype));
}

void check_sum(const Tensor& c, const Tensor& z, const Tensor& a, const Tensor& b, MatmulFlags flags) {
  check_product(c, a, b, flags);
  XL_CHECK(!flags.accumulate, "a sum with z cannot accumulate, too");
  XL_CHECK(z.rows == c.rows && z.cols == c.cols && z.dtype == c.dtype, "z is {} ({}, {}), expected {} ({}, {})",
           name_of(z.dtype), z.rows, z.cols, name_of(c.dtype), c.rows, c.cols);
  XL_CHECK(z.data != c.data, "z lies where c does: that is what flags.accumulate is for");
}

}  // namespace xlstm
