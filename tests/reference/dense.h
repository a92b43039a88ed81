#pragma once
// What every op but the mLSTM cell's means (formulas: kernels/ops.h).
#include <limits>

#include "kernels/ops.h"
#include "tests/reference/matrix.h"

namespace xlstm::ref {

template <class S>
Matrix<S> add(const Matrix<S>& x, const Matrix<S>& z) {
  return make_matrix<S>(x.rows, x.cols, [&](i64 r, i64 c) { return x(r, c) + z(r, c); });
}

template <class S>
Matrix<S> soft_cap(const Matrix<S>& x, double cap) {
  return make_matrix<S>(x.rows, x.cols, [&](i64 r, i64 c) { return soft_cap(x(r, c), cap); });
}

// op(a) op(b)
template <class S>
Matrix<S> matmul(const Matrix<S>& a, const Matrix<S>& b, bool transpose_a = false, bool transpose_b = false) {
  const i64 M = transpose_a ? a.cols : a.rows, K = transpose_a ? a.rows : a.cols;
  return make_matrix<S>(M, transpose_b ? b.rows : b.cols, [&](i64 m, i64 n) {
    S sum(0);
    for (i64 k = 0; k < K; ++k) sum += (transpose_a ? a(k, m) : a(m, k)) * (transpose_b ? b(n, k) : b(k, n));
    return sum;
  });
}

template <class S>
Matrix<S> embedding(const Matrix<S>& ids, const Matrix<S>& table) {
  return make_matrix<S>(ids.rows, table.cols, [&](i64 r, i64 c) { return table(whole(ids(r, 0)), c); });
}

template <class S>
Matrix<S> rms_rstd(const Matrix<S>& x, double eps) {
  return make_matrix<S>(x.rows, 1, [&](i64 r, i64) {
    S sum(0);
    for (i64 j = 0; j < x.cols; ++j) sum += x(r, j) * x(r, j);
    return S(1) / std::sqrt(sum / S(double(x.cols)) + S(eps));
  });
}

template <class S>
Matrix<S> rmsnorm(const Matrix<S>& x, const Matrix<S>& w, double eps) {
  const Matrix<S> rstd = rms_rstd(x, eps);
  return make_matrix<S>(x.rows, x.cols, [&](i64 r, i64 c) { return x(r, c) * rstd(r, 0) * w(0, c); });
}

template <class S>
Matrix<S> swiglu(const Matrix<S>& gate_up) {
  const i64 F = gate_up.cols / 2;
  return make_matrix<S>(gate_up.rows, F, [&](i64 r, i64 c) {
    const S gate = gate_up(r, c);
    return gate * sigmoid(gate) * gate_up(r, F + c);
  });
}

template <class S>
Matrix<S> input_gates(const Matrix<S>& pre, const Matrix<S>& bias, InputGate gate, double cap) {
  return make_matrix<S>(pre.rows, pre.cols / 2, [&](i64 r, i64 h) {
    const S x = soft_cap(pre(r, h) + bias(0, h), cap);
    return gate == InputGate::exp ? x : log_sigmoid(x);
  });
}

template <class S>
Matrix<S> forget_gates(const Matrix<S>& pre, const Matrix<S>& bias, const Matrix<S>& starts, double cap) {
  const i64 H = pre.cols / 2;
  return make_matrix<S>(pre.rows, H, [&](i64 r, i64 h) {
    if (whole(starts(r, 0)) != 0) return S(-std::numeric_limits<double>::infinity());
    return log_sigmoid(soft_cap(pre(r, H + h) + bias(0, H + h), cap));
  });
}

template <class S>
void gate_extremes(Matrix<S>& extremes, const Matrix<S>& pre, const Matrix<S>& bias) {
  for (i64 r = 0; r < pre.rows; ++r)
    for (i64 c = 0; c < pre.cols; ++c) {
      const S x = pre(r, c) + bias(0, c);
      if (std::real(x) > std::real(extremes(0, c))) extremes(0, c) = x;
      if (std::real(x) < std::real(extremes(1, c))) extremes(1, c) = x;
    }
}

template <class S>
Matrix<S> head_mean(const Matrix<S>& h, i64 heads, HeadNorm norm) {
  const i64 V = h.cols / heads;
  return make_matrix<S>(h.rows, heads, [&](i64 r, i64 head) {
    S sum(0);
    if (norm == HeadNorm::rmsnorm) return sum;
    for (i64 j = 0; j < V; ++j) sum += h(r, head * V + j);
    return sum / S(double(V));
  });
}

template <class S>
Matrix<S> head_rstd(const Matrix<S>& h, i64 heads, double eps, HeadNorm norm) {
  const i64 V = h.cols / heads;
  const Matrix<S> mean = head_mean(h, heads, norm);
  return make_matrix<S>(h.rows, heads, [&](i64 r, i64 head) {
    S sum(0);
    for (i64 j = 0; j < V; ++j) {
      const S d = h(r, head * V + j) - mean(r, head);
      sum += d * d;
    }
    return S(1) / std::sqrt(sum / S(double(V)) + S(eps));
  });
}

template <class S>
Matrix<S> head_norm_gate(const Matrix<S>& h, const Matrix<S>& o, const Matrix<S>& w, i64 heads, double eps,
                         HeadNorm norm) {
  const i64 V = h.cols / heads;
  const Matrix<S> mean = head_mean(h, heads, norm), rstd = head_rstd(h, heads, eps, norm);
  return make_matrix<S>(h.rows, h.cols, [&](i64 r, i64 c) {
    return sigmoid(o(r, c)) * (h(r, c) - mean(r, c / V)) * rstd(r, c / V) * w(0, c);
  });
}

template <class S>
Matrix<S> cross_entropy(const Matrix<S>& logits, const Matrix<S>& targets, double cap) {
  return make_matrix<S>(logits.rows, 1, [&](i64 r, i64) {
    const i64 target = whole(targets(r, 0));
    if (target < 0) return S(0);
    S sum(0);
    for (i64 j = 0; j < logits.cols; ++j) sum += std::exp(soft_cap(logits(r, j), cap));
    return std::log(sum) - soft_cap(logits(r, target), cap);
  });
}

template <class S>
void clip(Matrix<S>& scalars, const Matrix<S>& loss_sums, const Matrix<S>& square_sums, double limit) {
  const auto at = [&](UpdateScalar s) -> S& { return scalars(0, static_cast<i64>(s)); };
  at(UpdateScalar::loss) = at(UpdateScalar::grad_norm) = S(0);
  for (const S& x : loss_sums.values) at(UpdateScalar::loss) += x * at(UpdateScalar::inverse_tokens);
  for (const S& x : square_sums.values) at(UpdateScalar::grad_norm) += x;
  const S norm = at(UpdateScalar::grad_norm) = std::sqrt(at(UpdateScalar::grad_norm));
  at(UpdateScalar::grad_scale) = limit > 0 && std::real(norm) > limit ? S(limit) / norm : S(1);
  at(UpdateScalar::applied) = S(std::real(norm) <= std::real(at(UpdateScalar::norm_limit)) ? 1 : 0);
}

template <class S>
void adamw(Matrix<S>& w, Matrix<S>& m, Matrix<S>& v, const Matrix<S>& g, const Matrix<S>& scalars,
           const AdamWConstants& c) {
  const auto at = [&](UpdateScalar s) { return scalars(0, static_cast<i64>(s)); };
  for (i64 i = 0; i < w.cols; ++i) {
    const S scaled = g(0, i) * at(UpdateScalar::grad_scale);
    m(0, i) = S(c.beta1) * m(0, i) + S(1 - c.beta1) * scaled;
    v(0, i) = S(c.beta2) * v(0, i) + S(1 - c.beta2) * scaled * scaled;
    const S m_hat = m(0, i) / at(UpdateScalar::correction1), v_hat = v(0, i) / at(UpdateScalar::correction2);
    w(0, i) -= at(UpdateScalar::lr) * (m_hat / (std::sqrt(v_hat) + S(c.eps)) + S(c.weight_decay) * w(0, i));
  }
}

}  // namespace xlstm::ref
