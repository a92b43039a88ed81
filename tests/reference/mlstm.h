#pragma once
// The mLSTM cell (spec §2, §3) of one head of one sequence, in the plainest code: what the kernels mean. S is double,
// or std::complex<double> for gradients by the complex step. log_f = -inf drops the state before its token.
//
// Maxima never carry a gradient, and in Denominator::constant mode neither does the denominator, as in the official
// backward pass (spec §5.1).
#include <cmath>
#include <limits>
#include <vector>

#include "tests/reference/matrix.h"

namespace xlstm::ref {

constexpr double kMinusInf = -std::numeric_limits<double>::infinity();

template <class S>
S exponential(const S& x) {
  return re(x) == kMinusInf ? S(0) : std::exp(x);
}

enum class Denominator { constant, exact };

template <class S>
struct MlstmState {
  std::vector<S> c, n;  // (K, V), (K); stabilised: C = c e^m, n = n e^m
  double m = kMinusInf;
};

template <class S>
struct MlstmInput {
  i64 T, K, V;
  bool normalize = true;  // mLSTMexp; false: mLSTMsig
  double eps = 1e-6;
  std::vector<S> q{}, k{}, v{}, log_i{}, log_f{};  // (T, K), (T, K), (T, V), (T), (T)
  MlstmState<S> first{};                           // no elements: zero
};

template <class S>
struct MlstmOutput {
  std::vector<S> h;                      // (T, V)
  std::vector<double> denominator, max;  // (T): N without eps, M
  MlstmState<S> last;
};

template <class S>
MlstmState<S> initial_state(const MlstmInput<S>& in) {
  MlstmState<S> s = in.first;
  s.c.resize(in.K * in.V);
  s.n.resize(in.K);
  if (!in.normalize) s.m = 0;
  return s;
}

// h_t = numerator / (N + eps) with N = max(|r|, floor); floor = e^-M in stabilised units, 1 in the others
template <class S>
S denominator_of(const S& r, double floor, Denominator mode) {
  const S size = ref::abs(r);  // qualified: std::abs is the modulus
  const S n = re(size) > floor ? size : S(floor);
  return mode == Denominator::exact ? n : S(re(n));
}

// sum over K of q_k x_k,column / sqrt(K)
template <class S>
S query(const MlstmInput<S>& in, i64 t, const std::vector<S>& x, i64 width, i64 column) {
  S sum = 0;
  for (i64 d = 0; d < in.K; ++d) sum += in.q[t * in.K + d] * x[d * width + column];
  return sum / std::sqrt(double(in.K));
}

// The definition, without any stabiliser: C = f C + i k v^T, n = f n + i k, h = q C / (max(|q n|, 1) + eps e^m). m only
// weighs eps.
template <class S>
MlstmOutput<S> mlstm_recurrent(const MlstmInput<S>& in, Denominator mode = Denominator::constant) {
  MlstmState<S> s = initial_state(in);
  double m = s.m;
  for (S& x : s.c) x *= std::exp(m);
  for (S& x : s.n) x *= std::exp(m);
  MlstmOutput<S> out{std::vector<S>(in.T * in.V), {}, {}, {}};
  for (i64 t = 0; t < in.T; ++t) {
    const S f = exponential(in.log_f[t]), i = exponential(in.log_i[t]);
    m = in.normalize ? std::max(re(in.log_f[t]) + m, re(in.log_i[t])) : 0;
    for (i64 d = 0; d < in.K; ++d) {
      s.n[d] = f * s.n[d] + i * in.k[t * in.K + d];
      for (i64 e = 0; e < in.V; ++e)
        s.c[d * in.V + e] = f * s.c[d * in.V + e] + i * in.k[t * in.K + d] * in.v[t * in.V + e];
    }
    const S n = in.normalize ? denominator_of(query(in, t, s.n, 1, 0), 1, mode) : S(1);
    const S divisor = in.normalize ? n + in.eps * std::exp(m) : S(1);
    for (i64 e = 0; e < in.V; ++e) out.h[t * in.V + e] = query(in, t, s.c, in.V, e) / divisor;
    out.denominator.push_back(re(n) * std::exp(-m));
    out.max.push_back(m);
  }
  for (S& x : s.c) x *= std::exp(-m);
  for (S& x : s.n) x *= std::exp(-m);
  s.m = m;
  out.last = s;
  return out;
}

// The same with the running maximum taken out (spec §2.1).
template <class S>
MlstmOutput<S> mlstm_recurrent_stabilised(const MlstmInput<S>& in, Denominator mode = Denominator::constant) {
  MlstmState<S> s = initial_state(in);
  MlstmOutput<S> out{std::vector<S>(in.T * in.V), {}, {}, {}};
  for (i64 t = 0; t < in.T; ++t) {
    const double m = in.normalize ? std::max(re(in.log_f[t]) + s.m, re(in.log_i[t])) : 0;
    const S f = exponential(in.log_f[t] + (s.m - m)), i = exponential(in.log_i[t] - m);
    s.m = m;
    for (i64 d = 0; d < in.K; ++d) {
      s.n[d] = f * s.n[d] + i * in.k[t * in.K + d];
      for (i64 e = 0; e < in.V; ++e)
        s.c[d * in.V + e] = f * s.c[d * in.V + e] + i * in.k[t * in.K + d] * in.v[t * in.V + e];
    }
    const S n = in.normalize ? denominator_of(query(in, t, s.n, 1, 0), std::exp(-m), mode) : S(1);
    const S divisor = in.normalize ? n + in.eps : S(1);
    for (i64 e = 0; e < in.V; ++e) out.h[t * in.V + e] = query(in, t, s.c, in.V, e) / divisor;
    out.denominator.push_back(re(n));
    out.max.push_back(m);
  }
  out.last = s;
  return out;
}

// log of the weight of token s in the state after token t: sum of log f over (s, t], plus log i_s
template <class S>
S log_weight(const MlstmInput<S>& in, i64 t, i64 s) {
  S sum = in.log_i[s];
  for (i64 u = s + 1; u <= t; ++u) sum += in.log_f[u];
  return sum;
}

// Chunks of L tokens, each by the quadratic form, with a state between them (spec §3.3, §3.4).
template <class S>
MlstmOutput<S> mlstm_chunkwise(const MlstmInput<S>& in, i64 L, Denominator mode = Denominator::constant) {
  MlstmState<S> s = initial_state(in);
  MlstmOutput<S> out{std::vector<S>(in.T * in.V), {}, {}, {}};
  const auto weight = [](const S& log, double m) { return re(log) == kMinusInf ? S(0) : exponential(log - m); };
  for (i64 begin = 0; begin < in.T; begin += L) {
    const i64 end = std::min(in.T, begin + L);
    S decay_log = s.m;
    for (i64 t = begin; t < end; ++t) {
      decay_log += in.log_f[t];
      double m = in.normalize ? re(decay_log) : 0;
      if (in.normalize)
        for (i64 j = begin; j <= t; ++j) m = std::max(m, re(log_weight(in, t, j)));
      S r = weight(decay_log, m) * query(in, t, s.n, 1, 0);
      std::vector<S> h(in.V);
      for (i64 e = 0; e < in.V; ++e) h[e] = weight(decay_log, m) * query(in, t, s.c, in.V, e);
      for (i64 j = begin; j <= t; ++j) {
        S p = 0;
        for (i64 d = 0; d < in.K; ++d) p += in.q[t * in.K + d] * in.k[j * in.K + d];
        p *= weight(log_weight(in, t, j), m) / std::sqrt(double(in.K));
        r += p;
        for (i64 e = 0; e < in.V; ++e) h[e] += p * in.v[j * in.V + e];
      }
      const S n = in.normalize ? denominator_of(r, std::exp(-m), mode) : S(1);
      for (i64 e = 0; e < in.V; ++e) out.h[t * in.V + e] = h[e] / (in.normalize ? n + in.eps : S(1));
      out.denominator.push_back(re(n));
      out.max.push_back(m);
    }
    const double m = in.normalize ? out.max.back() : 0;
    for (S& x : s.c) x *= weight(decay_log, m);
    for (S& x : s.n) x *= weight(decay_log, m);
    for (i64 j = begin; j < end; ++j)
      for (i64 d = 0; d < in.K; ++d) {
        const S k = weight(log_weight(in, end - 1, j), m) * in.k[j * in.K + d];
        s.n[d] += k;
        for (i64 e = 0; e < in.V; ++e) s.c[d * in.V + e] += k * in.v[j * in.V + e];
      }
    s.m = m;
  }
  out.last = s;
  return out;
}

// The quadratic form over the whole sequence (spec §3.1): H = (P / (N + eps)) V with P = K^-1/2 Q K^T o D. The first
// state is a token before all others, with a matrix in place of k v^T.
template <class S>
MlstmOutput<S> mlstm_parallel(const MlstmInput<S>& in, Denominator mode = Denominator::constant) {
  const MlstmState<S> first = initial_state(in);
  MlstmOutput<S> out{std::vector<S>(in.T * in.V), {}, {}, {}};
  std::vector<S> D(in.T + 1);  // of one row t: D[0] of the first state, D[s + 1] of token s
  for (i64 t = 0; t < in.T; ++t) {
    S sum = first.m;
    for (i64 u = 0; u <= t; ++u) sum += in.log_f[u];
    D[0] = sum;
    for (i64 s = 0; s <= t; ++s) D[s + 1] = log_weight(in, t, s);
    double m = in.normalize ? kMinusInf : 0;
    if (in.normalize)
      for (i64 s = 0; s <= t + 1; ++s) m = std::max(m, re(D[s]));
    for (i64 s = 0; s <= t + 1; ++s) D[s] = re(D[s]) == kMinusInf ? S(0) : exponential(D[s] - m);

    S r = D[0] * query(in, t, first.n, 1, 0);
    std::vector<S> numerator(in.V);
    for (i64 e = 0; e < in.V; ++e) numerator[e] = D[0] * query(in, t, first.c, in.V, e);
    for (i64 s = 0; s <= t; ++s) {
      const std::vector<S> key(in.k.begin() + s * in.K, in.k.begin() + (s + 1) * in.K);
      const S P = D[s + 1] * query(in, t, key, 1, 0);
      r += P;
      for (i64 e = 0; e < in.V; ++e) numerator[e] += P * in.v[s * in.V + e];
    }
    const S n = in.normalize ? denominator_of(r, std::exp(-m), mode) : S(1);
    for (i64 e = 0; e < in.V; ++e) out.h[t * in.V + e] = numerator[e] / (in.normalize ? n + in.eps : S(1));
    out.denominator.push_back(re(n));
    out.max.push_back(m);
  }
  // D is the last row's: what is left of every token at the end.
  out.last = first;
  out.last.m = out.max.back();
  for (S& x : out.last.c) x *= D[0];
  for (S& x : out.last.n) x *= D[0];
  for (i64 s = 0; s < in.T; ++s)
    for (i64 d = 0; d < in.K; ++d) {
      out.last.n[d] += D[s + 1] * in.k[s * in.K + d];
      for (i64 e = 0; e < in.V; ++e) out.last.c[d * in.V + e] += D[s + 1] * in.k[s * in.K + d] * in.v[s * in.V + e];
    }
  return out;
}

}  // namespace xlstm::ref
