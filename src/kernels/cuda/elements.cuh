#pragma once
// Rows of f32 or bf16 as the small kernels read and write them: always as floats, 16 bytes at a time where addresses
// allow it. W = elements per access: 16 / sizeof(T), or 1.
#include "core/bf16.h"
#include "core/tensor.h"
#include "kernels/cuda/dialect.h"

namespace xlstm::dialect {

template <class T>
struct Rows {
  T* data = nullptr;
  i64 stride = 0;  // in elements
  XL_DEVICE T* row(i64 r) const { return data + r * stride; }
};

template <class T>
Rows<T> rows_of(const Tensor& t) {
  return t.rows == 0 ? Rows<T>{} : Rows<T>{t.row<T>(), t.row_stride};
}

template <class T>
constexpr int kWide = 16 / static_cast<int>(sizeof(T));

// Rows of these tensors can be read 16 bytes at a time to their ends. Absent tensors do not object.
template <class... Tensors>
bool all_wide(const Tensors&... tensors) {
  const auto wide = [](const Tensor& t) {
    const i64 n = 16 / size_of(t.dtype);
    return t.rows == 0 || (reinterpret_cast<std::uintptr_t>(t.data) % 16 == 0 && t.cols % n == 0 &&
                           (t.row_stride % n == 0 || t.rows == 1));
  };
  return (wide(tensors) && ...);
}

struct alignas(16) Words4 {
  std::uint32_t w[4];
};
struct alignas(16) Floats4 {
  float f[4];
};
constexpr std::uint32_t kFloat = 4;  // bytes

template <int W>
XL_DEVICE void load_floats(float (&x)[W], const float* p) {
  if constexpr (W == 1) {
    x[0] = global_load(p);
  } else {
    XL_UNROLL
    for (int i = 0; i < W; i += 4) {
      const Floats4 four = global_load(reinterpret_cast<const Floats4*>(p + i));
      for (int j = 0; j < 4; ++j) x[i + j] = four.f[j];
    }
  }
}

// W elements in the registers that they need in memory; read as floats.
template <class T, int W>
struct Packed;
template <int W>
struct Packed<float, W> {
  float x[W];
  XL_DEVICE void load(const float* p) { load_floats<W>(x, p); }
  XL_DEVICE float operator[](int i) const { return x[i]; }
};
template <>
struct Packed<bf16, 1> {
  bf16 x;
  XL_DEVICE void load(const bf16* p) { x = global_load(p); }
  XL_DEVICE float operator[](int) const { return to_float(x); }
};
template <>
struct alignas(8) Packed<bf16, 4> {
  std::uint32_t w[2];
  XL_DEVICE void load(const bf16* p) { *this = global_load(reinterpret_cast<const Packed*>(p)); }
  XL_DEVICE float operator[](int i) const { return i % 2 == 0 ? low_half(w[i / 2]) : high_half(w[i / 2]); }
};
template <int W>
struct Packed<bf16, W> {
  Words4 four[W / 8];
  XL_DEVICE void load(const bf16* p) {
    XL_UNROLL
    for (int i = 0; i < W / 8; ++i) four[i] = global_load(reinterpret_cast<const Words4*>(p) + i);
  }
  XL_DEVICE float operator[](int i) const {
    const std::uint32_t word = four[i / 8].w[i % 8 / 2];
    return i % 2 == 0 ? low_half(word) : high_half(word);
  }
};
template <int W>
XL_DEVICE void load_floats(float (&x)[W], const bf16* p) {
  Packed<bf16, W> packed;
  packed.load(p);
  XL_UNROLL
  for (int i = 0; i < W; ++i) x[i] = packed[i];
}
// store(i, four of x from i on)
template <int W, class F>
XL_DEVICE void for_fours(const float (&x)[W], F&& store) {
  XL_UNROLL
  for (int i = 0; i < W; i += 4) {
    Floats4 four;
    for (int j = 0; j < 4; ++j) four.f[j] = x[i + j];
    store(i, four);
  }
}
template <int W>
XL_DEVICE void store_floats(float* p, const float (&x)[W]) {
  if constexpr (W == 1)
    global_store(p, x[0]);
  else
    for_fours(x, [p](int i, const Floats4& four) { global_store(reinterpret_cast<Floats4*>(p + i), four); });
}
template <int W>
XL_DEVICE void shared_store_floats(std::uint32_t address, const float (&x)[W]) {
  if constexpr (W == 1)
    shared_store(address, x[0]);
  else
    for_fours(x, [address](int i, const Floats4& four) {
      shared_store(address + static_cast<std::uint32_t>(i) * kFloat, four);
    });
}
template <int W>
XL_DEVICE void store_floats(bf16* p, const float (&x)[W]) {
  if constexpr (W == 1) {
    global_store(p, to_bf16(x[0]));
  } else if constexpr (W == 4) {
    struct alignas(8) Two {
      std::uint32_t w[2];
    };
    Two two;
    for (int j = 0; j < 2; ++j) two.w[j] = pack_bf16(x[2 * j], x[2 * j + 1]);
    global_store(reinterpret_cast<Two*>(p), two);
  } else {
    XL_UNROLL
    for (int i = 0; i < W; i += 8) {
      Words4 four;
      for (int j = 0; j < 4; ++j) four.w[j] = pack_bf16(x[i + 2 * j], x[i + 2 * j + 1]);
      global_store(reinterpret_cast<Words4*>(p + i), four);
    }
  }
}

// What `parts` rows of `stride` floats in shared memory add up to in one column, in order.
XL_DEVICE float shared_column_sum(std::uint32_t address, int parts, int stride) {
  float sum = 0;
  for (int i = 0; i < parts; ++i) sum += shared_load<float>(address + static_cast<std::uint32_t>(i * stride) * kFloat);
  return sum;
}

// Sums and maxima of a warp: every lane has the result, always by the same tree.
XL_DEVICE float warp_sum(float x) {
  for (int mask = 16; mask > 0; mask /= 2) x += shuffle_xor(x, mask);
  return x;
}
XL_DEVICE double warp_sum(double x) {
  for (int mask = 16; mask > 0; mask /= 2) x += shuffle_xor(x, mask);
  return x;
}
XL_DEVICE float warp_max(float x) {
  for (int mask = 16; mask > 0; mask /= 2) {
    const float y = shuffle_xor(x, mask);
    x = x > y ? x : y;
  }
  return x;
}

// f.operator()<T>() for an activation's type.
template <class F>
void with_gpu_type(DType t, F&& f) {
  switch (t) {
    case DType::f32: return f.template operator()<float>();
    case DType::bf16: return f.template operator()<bf16>();
    default: XL_CHECK(false, "no CUDA kernel for {}", name_of(t));
  }
}

inline void check_shape(const Tensor& t, i64 rows, i64 cols, DType dtype) {
  XL_CHECK(t.rows == rows && t.cols == cols, "expected ({}, {}), got ({}, {})", rows, cols, t.rows, t.cols);
  XL_CHECK(t.dtype == dtype, "expected {}, got {}", name_of(dtype), name_of(t.dtype));
  XL_CHECK(t.device == Device::cuda || t.rows == 0, "the tensor is not on the device");
}

}  // namespace xlstm::dialect
