#pragma once
// The language of the references: plain matrices of any scalar. At double a reference is the expected value; at
// std::complex<double> it yields exact derivatives, f'(x) = Im f(x + ih) / h, with nothing to cancel. Therefore: branch
// on real parts only, and never take a modulus (std::abs, std::norm) or a conjugate.
#include <complex>
#include <vector>

#include "core/tensor.h"

namespace xlstm::ref {

inline double re(double x) { return x; }
inline double re(std::complex<double> x) { return x.real(); }

template <class S>
S abs(S x) {
  return re(x) < 0 ? -x : x;
}
template <class S>
S max(S a, S b) {
  return re(a) < re(b) ? b : a;
}
template <class S>
S sigmoid(S x) {
  return S(1) / (S(1) + std::exp(-x));
}
template <class S>
S log_sigmoid(S x) {
  return re(x) < 0 ? x - std::log(S(1) + std::exp(x)) : -std::log(S(1) + std::exp(-x));
}
template <class S>
S soft_cap(S x, double cap) {
  return S(cap) * std::tanh(x / S(cap));
}

// A whole number that travels in a matrix: ids, targets, document starts.
template <class S>
i64 whole(S x) {
  return static_cast<i64>(re(x));
}

template <class S>
struct Matrix {
  i64 rows = 0, cols = 0;
  std::vector<S> values;

  Matrix() = default;
  Matrix(i64 r, i64 c, S value = S(0)) : rows(r), cols(c), values(static_cast<std::size_t>(r * c), value) {}
  S& operator()(i64 r, i64 c) { return values[static_cast<std::size_t>(r * cols + c)]; }
  const S& operator()(i64 r, i64 c) const { return values[static_cast<std::size_t>(r * cols + c)]; }
};

// f(r, c) for every element
template <class S, class F>
Matrix<S> make_matrix(i64 rows, i64 cols, F&& f) {
  Matrix<S> m(rows, cols);
  for (i64 r = 0; r < rows; ++r)
    for (i64 c = 0; c < cols; ++c) m(r, c) = f(r, c);
  return m;
}

}  // namespace xlstm::ref
