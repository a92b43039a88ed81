// fill, copy, add, soft_cap
#include "core/parallel.h"
#include "kernels/cpu/vec.h"
#include "kernels/ops.h"

namespace xlstm::XL_CPU {

namespace {

constexpr i64 kBlockElements = 1 << 14;  // one task: enough work to be worth a thread

// body(row, width-aware column loop) over fixed blocks of rows
template <class F>
void for_rows(Tensor t, F&& body) {
  const i64 block = std::max<i64>(1, kBlockElements / std::max<i64>(1, t.cols));
  parallel_blocks(t.rows, block, [&](i64 begin, i64 end) {
    for (i64 r = begin; r < end; ++r) body(r);
  });
}

void check_same_shape(const Tensor& y, const Tensor& x) {
  XL_CHECK(y.rows == x.rows && y.cols == x.cols, "({}, {}) and ({}, {}) differ", y.rows, y.cols, x.rows, x.cols);
}

}  // namespace

void fill(Context&, Tensor y, double value) {
  with_float_type(y.dtype, [&]<class T>() {
    for_rows(y, [&](i64 r) {
      T* out = y.row<T>(r);
      for (i64 j = 0; j < y.cols; ++j) out[j] = T(value);
    });
  });
}

void copy(Context&, Tensor y, Tensor x) {
  check_same_shape(y, x);
  with_float_type(y.dtype, [&]<class T>() {
    for_rows(y, [&](i64 r) {
      std::memcpy(y.row<T>(r), x.row<T>(r), static_cast<std::size_t>(y.cols) * sizeof(T));
    });
  });
}

void add(Context&, Tensor y, Tensor x, Tensor z) {
  check_same_shape(y, x);
  check_same_shape(y, z);
  with_float_type(y.dtype, [&]<class T>() {
    for_rows(y, [&](i64 r) {
      T* out = y.row<T>(r);
      const T *a = x.row<T>(r), *b = z.row<T>(r);
      for_lanes<T>(y.cols, [&](i64 j, i64 w) { store(out + j, load(a + j, w) + load(b + j, w), w); });
    });
  });
}

void soft_cap(Context&, Tensor y, Tensor x, double cap) {
  check_same_shape(y, x);
  with_float_type(y.dtype, [&]<class T>() {
    const Vec<T> c{T(cap)}, inverse{T(1 / cap)};
    for_rows(y, [&](i64 r) {
      T* out = y.row<T>(r);
      const T* in = x.row<T>(r);
      for_lanes<T>(y.cols, [&](i64 j, i64 w) { store(out + j, c * tanh(load(in + j, w) * inverse), w); });
    });
  });
}

}  // namespace xlstm::XL_CPU
