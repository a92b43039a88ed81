#pragma once
// Tensor: a view of memory somebody else owns. Two dimensions are enough: activations are (B*T, features), and
// sequence length, heads and chunks are arguments of the ops that know about them.
#include <cstddef>
#include <cstdint>

#include "core/bf16.h"
#include "core/check.h"

namespace xlstm {

using i64 = std::int64_t;

enum class DType : std::uint8_t { f32, f64, bf16, i32 };
constexpr i64 size_of(DType t) { return t == DType::f64 ? 8 : t == DType::bf16 ? 2 : 4; }
const char* name_of(DType t);

// Statistics, gates, states and losses are never narrower than f32 (docs/numerics.md).
constexpr DType stat_type(DType t) { return t == DType::f64 ? DType::f64 : DType::f32; }

template <class T>
struct dtype_of;
template <>
struct dtype_of<float> {
  static constexpr DType value = DType::f32;
};
template <>
struct dtype_of<double> {
  static constexpr DType value = DType::f64;
};
template <>
struct dtype_of<bf16> {
  static constexpr DType value = DType::bf16;
};
template <>
struct dtype_of<std::int32_t> {
  static constexpr DType value = DType::i32;
};

enum class Device : std::uint8_t { cpu, cuda };
const char* name_of(Device d);

// Copying a Tensor copies no data. Rows may be a slice of a wider matrix (row_stride in elements, BLAS's ld); a row
// itself is dense. A Tensor without data is either absent (rows = 0) or a measurement (see Arena).
struct Tensor {
  std::byte* data = nullptr;
  DType dtype = DType::f32;
  Device device = Device::cpu;
  i64 rows = 0, cols = 0, row_stride = 0;

  explicit operator bool() const { return data != nullptr; }
  i64 size() const { return rows * cols; }
  i64 bytes() const { return size() * size_of(dtype); }
  bool dense() const { return row_stride == cols || rows <= 1; }

  template <class T>
  T* row(i64 r = 0) const {
    XL_CHECK(dtype == dtype_of<T>::value, "the tensor holds {}", name_of(dtype));
    return reinterpret_cast<T*>(data) + r * row_stride;
  }

  Tensor slice_rows(i64 begin, i64 end) const {
    XL_CHECK(0 <= begin && begin <= end && end <= rows, "rows [{}, {}) of {}", begin, end, rows);
    Tensor t = *this;
    t.data = data ? data + begin * row_stride * size_of(dtype) : nullptr;
    t.rows = end - begin;
    return t;
  }

  // q, k, v out of one fused projection, without a copy.
  Tensor slice_cols(i64 begin, i64 end) const {
    XL_CHECK(0 <= begin && begin <= end && end <= cols, "columns [{}, {}) of {}", begin, end, cols);
    Tensor t = *this;
    t.data = data ? data + begin * size_of(dtype) : nullptr;
    t.cols = end - begin;
    return t;
  }

  // The same dense values as one row.
  Tensor flat() const {
    XL_CHECK(dense(), "only a dense tensor can be flattened");
    Tensor t = *this;
    t.rows = 1;
    t.cols = t.row_stride = size();
    return t;
  }
};

inline Tensor make_tensor(void* data, DType dtype, i64 rows, i64 cols) {
  return {static_cast<std::byte*>(data), dtype, Device::cpu, rows, cols, cols};
}

}  // namespace xlstm
