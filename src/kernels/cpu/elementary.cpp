// fill, copy, add, soft_cap
#include "kernels/cpu/rows.h"
#include "kernels/ops.h"

namespace xlstm::XL_CPU {

namespace {

void copy_rounded(Tensor y, Tensor x) {
  check_shape(x, y.rows, y.cols, DType::f32);
  check_shape(y, y.rows, y.cols, DType::bf16);
  const RowsOf<bf16> out(y);
  const RowsOf<float> in(x);
  for_spans(y.rows, y.cols, [&](i64 r, i64 begin, i64 end) {
    for_lanes<float>(end - begin, [&](i64 j, i64 n) { store(out[r] + begin + j, load(in[r] + begin + j, n), n); });
  });
}

}  // namespace

void fill(Context&, Tensor y, double value) {
  with_element_type(y.dtype, [&]<class E, class T>() {
    const RowsOf<E> out(y);
    const E element = to_element<E>(T(value));
    for_spans(y.rows, y.cols, [&](i64 r, i64 begin, i64 end) { std::fill(out[r] + begin, out[r] + end, element); });
  });
}

void copy(Context&, Tensor y, Tensor x) {
  if (x.dtype != y.dtype) return copy_rounded(y, x);
  check_shape(x, y.rows, y.cols, y.dtype);
  with_element_type(y.dtype, [&]<class E, class>() {
    const RowsOf<E> out(y), in(x);
    for_spans(y.rows, y.cols,
              [&](i64 r, i64 begin, i64 end) { std::copy(in[r] + begin, in[r] + end, out[r] + begin); });
  });
}

void add(Context&, Tensor y, Tensor x, Tensor z) {
  check_shape(x, y.rows, y.cols, y.dtype);
  check_shape(z, y.rows, y.cols, y.dtype);
  with_element_type(y.dtype, [&]<class E, class T>() {
    const RowsOf<E> out(y), a(x), b(z);
    for_spans(y.rows, y.cols, [&](i64 r, i64 begin, i64 end) {
      E* const to = out[r] + begin;
      const E *const left = a[r] + begin, *const right = b[r] + begin;
      for_lanes<T>(end - begin, [&](i64 j, i64 n) { store(to + j, load(left + j, n) + load(right + j, n), n); });
    });
  });
}

void soft_cap(Context&, Tensor y, Tensor x, double cap) {
  check_shape(x, y.rows, y.cols, y.dtype);
  with_element_type(y.dtype, [&]<class E, class T>() {
    const RowsOf<E> out(y), in(x);
    const Vec<T> c{T(cap)}, inverse{T(1 / cap)};
    for_spans(y.rows, y.cols, [&](i64 r, i64 begin, i64 end) {
      E* const to = out[r] + begin;
      const E* const from = in[r] + begin;
      for_lanes<T>(end - begin, [&](i64 j, i64 n) { store(to + j, c * tanh(load(from + j, n) * inverse), n); });
    });
  });
}

}  // namespace xlstm::XL_CPU
