#pragma once
// One register of floats or doubles at a time. This header, like every file of this folder, is compiled once per
// instruction set, into a namespace of its own (XL_CPU). The width is the register's own: gcc turns comparisons and
// conversions of wider vectors into scalar code. Errors of exp and tanh: docs/numerics.md, held by
// tests/kernels/vec_test.cpp.
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#include "core/tensor.h"

#ifndef XL_CPU
#define XL_CPU cpu_baseline
#endif

namespace xlstm::XL_CPU {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif

// gcc ignores vector_size on a dependent type, hence one plain typedef per element type.
template <class T>
struct VecTypes;
template <>
struct VecTypes<float> {
  typedef float V __attribute__((vector_size(kVectorBytes)));
  typedef float Unaligned __attribute__((vector_size(kVectorBytes), aligned(4), may_alias));
};
template <>
struct VecTypes<double> {
  typedef double V __attribute__((vector_size(kVectorBytes)));
  typedef double Unaligned __attribute__((vector_size(kVectorBytes), aligned(8), may_alias));
};

template <class T>
struct Vec {
  static constexpr i64 kWidth = kVectorBytes / sizeof(T);
  using V = typename VecTypes<T>::V;
  using Unaligned = typename VecTypes<T>::Unaligned;
  V v;

  Vec() = default;
  Vec(V x) : v(x) {}
  Vec(T x) : v(x - V{}) {}
  static Vec load(const T* p) { return V(*reinterpret_cast<const Unaligned*>(p)); }
  // n < kWidth elements; the other lanes are `rest`
  static Vec load(const T* p, i64 n, T rest = T(0)) {
    Vec x(rest);
    std::memcpy(&x.v, p, static_cast<std::size_t>(n) * sizeof(T));
    return x;
  }
  void store(T* p) const { *reinterpret_cast<Unaligned*>(p) = v; }
  void store(T* p, i64 n) const { std::memcpy(p, &v, static_cast<std::size_t>(n) * sizeof(T)); }

  friend Vec operator+(Vec a, Vec b) { return a.v + b.v; }
  friend Vec operator-(Vec a, Vec b) { return a.v - b.v; }
  friend Vec operator*(Vec a, Vec b) { return a.v * b.v; }
  friend Vec operator/(Vec a, Vec b) { return a.v / b.v; }
  friend Vec operator-(Vec a) { return -a.v; }
  Vec& operator+=(Vec b) {
    v += b.v;
    return *this;
  }
  Vec& operator*=(Vec b) {
    v *= b.v;
    return *this;
  }

  // Lanes added pairwise, always in the same tree.
  T sum() const {
    T lane[kWidth];
    std::memcpy(lane, &v, sizeof v);
    for (i64 half = kWidth / 2; half > 0; half /= 2)
      for (i64 i = 0; i < half; ++i) lane[i] += lane[i + half];
    return lane[0];
  }
  T max() const {
    T lane[kWidth];
    std::memcpy(lane, &v, sizeof v);
    for (i64 half = kWidth / 2; half > 0; half /= 2)
      for (i64 i = 0; i < half; ++i) lane[i] = lane[i] < lane[i + half] ? lane[i + half] : lane[i];
    return lane[0];
  }
};

template <class T>
Vec<T> max(Vec<T> a, Vec<T> b) {
  return a.v > b.v ? a.v : b.v;
}
template <class T>
Vec<T> min(Vec<T> a, Vec<T> b) {
  return a.v < b.v ? a.v : b.v;
}
template <class T>
Vec<T> abs(Vec<T> a) {
  return a.v < 0 ? -a.v : a.v;
}

// f(lane) for every lane: doubles are for gradient checks, not for speed.
template <class F>
Vec<double> lanewise(Vec<double> x, F&& f) {
  for (i64 i = 0; i < Vec<double>::kWidth; ++i) x.v[i] = f(x.v[i]);
  return x;
}

inline Vec<double> exp(Vec<double> x) {
  return lanewise(x, [](double a) { return std::exp(a); });
}
inline Vec<double> tanh(Vec<double> x) {
  return lanewise(x, [](double a) { return std::tanh(a); });
}
inline Vec<double> sqrt(Vec<double> x) {
  return lanewise(x, [](double a) { return std::sqrt(a); });
}

inline Vec<float> sqrt(Vec<float> x) {
  for (i64 i = 0; i < Vec<float>::kWidth; ++i) x.v[i] = std::sqrt(x.v[i]);
  return x;
}

// e^x = 2^n e^r with |r| <= ln 2 / 2: Cody-Waite reduction, polynomial of degree 6 in r. -inf gives 0, +inf and what
// overflows give inf, NaN stays NaN; results below the smallest normal number are flushed to 0.
inline Vec<float> exp(Vec<float> x) {
  typedef std::int32_t I __attribute__((vector_size(kVectorBytes)));
  using V = Vec<float>::V;
  constexpr float kLowest = -87.33654f, kHighest = 88.72283f, kInf = std::numeric_limits<float>::infinity();
  const V clamped = x.v < kLowest ? V{} + kLowest : (x.v > kHighest ? V{} + kHighest : x.v);
  constexpr float kShift = 12582912.0f;  // 1.5 * 2^23: rounds to the nearest whole number
  const V n = (clamped * 1.44269504f + kShift) - kShift;
  const V r = (clamped - n * 0.693145752f) - n * 1.42860677e-6f;
  V p = r * 1.3981999e-3f + 8.3334519e-3f;
  p = p * r + 4.1665795e-2f;
  p = p * r + 1.6666666e-1f;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  // 2^n in two factors, because n may be 128
  const I whole = __builtin_convertvector(n, I);
  const I half = whole >> 1;
  const I low = (half + 127) << 23, high = (whole - half + 127) << 23;
  V scale_low, scale_high;
  std::memcpy(&scale_low, &low, sizeof low);
  std::memcpy(&scale_high, &high, sizeof high);
  V y = p * scale_low * scale_high;
  y = x.v < kLowest ? V{} : y;
  y = x.v > kHighest ? V{} + kInf : y;
  return Vec<float>(x.v == x.v ? y : x.v);
}

// Odd polynomial for |x| < 0.625, 1 - 2 / (e^2|x| + 1) with the sign of x beyond.
inline Vec<float> tanh(Vec<float> x) {
  using V = Vec<float>::V;
  const V a = abs(x).v, s = x.v * x.v;
  V p = s * -5.70498872745e-3f + 2.06390887954e-2f;
  p = p * s - 5.37397155531e-2f;
  p = p * s + 1.33314422036e-1f;
  p = p * s - 3.33332819422e-1f;
  const V near = x.v + x.v * s * p;
  const V beyond = 1.0f - 2.0f / (exp(Vec<float>(2.0f * a)).v + 1.0f);
  return Vec<float>(a < 0.625f ? near : (x.v < 0 ? -beyond : beyond));
}

template <class T>
Vec<T> sigmoid(Vec<T> x) {
  return Vec<T>(T(1)) / (Vec<T>(T(1)) + exp(-x));
}

// body(i, width) over [0, n): whole vectors with width = kWidth, then one rest with width < kWidth.
template <class T, class F>
void for_lanes(i64 n, F&& body) {
  i64 i = 0;
  for (; i + Vec<T>::kWidth <= n; i += Vec<T>::kWidth) body(i, Vec<T>::kWidth);
  if (i < n) body(i, n - i);
}
template <class T>
Vec<T> load(const T* p, i64 width) {
  return width == Vec<T>::kWidth ? Vec<T>::load(p) : Vec<T>::load(p, width);
}
template <class T>
void store(T* p, Vec<T> x, i64 width) {
  width == Vec<T>::kWidth ? x.store(p) : x.store(p, width);
}

// Zero from lane n on
template <class T>
Vec<T> first_lanes(Vec<T> x, i64 n) {
  return Vec<T>::load(reinterpret_cast<const T*>(&x.v), n);
}

// bf16 is for memory only: loaded as f32, rounded when it is stored.
template <class E>
struct Arithmetic {
  using Type = E;
};
template <>
struct Arithmetic<bf16> {
  using Type = float;
};
template <class E>
using ArithmeticOf = typename Arithmetic<E>::Type;

typedef std::uint16_t HalfWords __attribute__((vector_size(kVectorBytes / 2)));
typedef std::uint32_t Words __attribute__((vector_size(kVectorBytes)));

inline Vec<float> widen(HalfWords bits) {
  return Vec<float>(reinterpret_cast<Vec<float>::V>(__builtin_convertvector(bits, Words) << 16));
}
// as to_bf16() of every lane
inline HalfWords narrow(Vec<float> x) {
  const Words bits = reinterpret_cast<Words>(x.v);
  const Words rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  return __builtin_convertvector(x.v == x.v ? rounded : (bits >> 16 | 0x40u), HalfWords);
}
inline Vec<float> load(const bf16* p, i64 width) {
  HalfWords bits{};
  std::memcpy(&bits, p, width == Vec<float>::kWidth ? sizeof bits : static_cast<std::size_t>(width) * sizeof(bf16));
  return widen(bits);
}
inline void store(bf16* p, Vec<float> x, i64 width) {
  const HalfWords bits = narrow(x);
  std::memcpy(p, &bits, width == Vec<float>::kWidth ? sizeof bits : static_cast<std::size_t>(width) * sizeof(bf16));
}

// Scalars of any element type
template <class T>
T to_arithmetic(T x) {
  return x;
}
inline float to_arithmetic(bf16 x) { return to_float(x); }
template <class E>
E to_element(ArithmeticOf<E> x) {
  if constexpr (std::is_same_v<E, bf16>)
    return to_bf16(x);
  else
    return x;
}

// with_float_type(x.dtype, [&]<class T>() { ... T is float or double ... });
template <class F>
void with_float_type(DType t, F&& f) {
  switch (t) {
    case DType::f32: return f.template operator()<float>();
    case DType::f64: return f.template operator()<double>();
    default: XL_CHECK(false, "no CPU kernel for {}", name_of(t));
  }
}
// The same with bf16: [&]<class E, class T>(), elements of type E, arithmetic in T.
template <class F>
void with_element_type(DType t, F&& f) {
  if (t == DType::bf16) return f.template operator()<bf16, float>();
  with_float_type(t, [&]<class T>() { f.template operator()<T, T>(); });
}

}  // namespace xlstm::XL_CPU
