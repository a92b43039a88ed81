#pragma once
// The whole language model (spec §6) by the references of its parts. The mLSTM's denominator keeps its gradient here:
// with both eps at 0 the head norm cancels it exactly, and the model's backward pass, which treats it as a constant,
// has to agree (spec §5.5).
#include <map>
#include <string>

#include "model/config.h"
#include "tests/reference/dense.h"
#include "tests/reference/mlstm.h"

namespace xlstm::ref {

template <class S>
using Params = std::map<std::string, Matrix<S>>;

struct ModelTokens {
  i64 sequences, length;
  std::vector<int> ids, targets, starts;
};

template <class S>
Matrix<S> columns(const Matrix<S>& x, i64 begin, i64 end) {
  return make_matrix<S>(x.rows, end - begin, [&](i64 r, i64 c) { return x(r, begin + c); });
}

template <class S>
Matrix<S> side_by_side(const Matrix<S>& a, const Matrix<S>& b) {
  return make_matrix<S>(a.rows, a.cols + b.cols, [&](i64 r, i64 c) { return c < a.cols ? a(r, c) : b(r, c - a.cols); });
}

template <class S>
Matrix<S> added(const Matrix<S>& a, const Matrix<S>& b) {
  return make_matrix<S>(a.rows, a.cols, [&](i64 r, i64 c) { return a(r, c) + b(r, c); });
}

template <class S>
Matrix<S> as_row(const Matrix<S>& x) {
  Matrix<S> row = x;
  row.rows = 1;
  row.cols = x.rows * x.cols;
  return row;
}

template <class S>
Matrix<S> integers_as(const std::vector<int>& values) {
  return make_matrix<S>(static_cast<i64>(values.size()), 1,
                        [&](i64 r, i64) { return S(double(values[std::size_t(r)])); });
}

// One head of one sequence, cut out of the rows of all.
template <class S>
MlstmInput<S> cell_input(const ModelConfig& cfg, const Matrix<S>& q, const Matrix<S>& k, const Matrix<S>& v,
                         const Matrix<S>& log_i, const Matrix<S>& log_f, i64 first_row, i64 T, i64 head) {
  const i64 K = cfg.qk_dim() / cfg.mixer.num_heads, V = cfg.v_dim() / cfg.mixer.num_heads;
  MlstmInput<S> in{.T = T, .K = K, .V = V, .normalize = cfg.mixer.input_gate == InputGate::exp, .eps = cfg.mixer.eps};
  for (i64 t = first_row; t < first_row + T; ++t) {
    for (i64 d = 0; d < K; ++d) in.q.push_back(q(t, head * K + d)), in.k.push_back(k(t, head * K + d));
    for (i64 e = 0; e < V; ++e) in.v.push_back(v(t, head * V + e));
    in.log_i.push_back(log_i(t, head));
    in.log_f.push_back(log_f(t, head));
  }
  return in;
}

template <class S>
Matrix<S> mlstm_layer(const ModelConfig& cfg, Params<S>& p, const std::string& name, const Matrix<S>& x,
                      const ModelTokens& tokens) {
  const auto w = [&](const char* part) -> Matrix<S>& { return p.at(name + "." + part); };
  const i64 H = cfg.mixer.num_heads, V = cfg.v_dim() / H;
  const Matrix<S> q = matmul(x, w("q.weight"), false, true), k = matmul(x, w("k.weight"), false, true),
                  v = matmul(x, w("v.weight"), false, true), o = matmul(x, w("ogate_preact.weight"), false, true);
  const Matrix<S> pre =
      side_by_side(matmul(x, w("igate_preact.weight"), false, true), matmul(x, w("fgate_preact.weight"), false, true));
  const Matrix<S> bias = side_by_side(as_row(w("igate_preact.bias")), as_row(w("fgate_preact.bias")));
  const Matrix<S> log_i = input_gates(pre, bias, cfg.mixer.input_gate, cfg.mixer.gate_soft_cap);
  const Matrix<S> log_f = forget_gates(pre, bias, integers_as<S>(tokens.starts), cfg.mixer.gate_soft_cap);
  Matrix<S> h(x.rows, cfg.v_dim());
  for (i64 b = 0; b < tokens.sequences; ++b)
    for (i64 head = 0; head < H; ++head) {
      const auto out = mlstm_recurrent(cell_input(cfg, q, k, v, log_i, log_f, b * tokens.length, tokens.length, head),
                                       Denominator::exact);
      for (i64 t = 0; t < tokens.length; ++t)
        for (i64 e = 0; e < V; ++e) h(b * tokens.length + t, head * V + e) = out.h[std::size_t(t * V + e)];
    }
  const Matrix<S> gated =
      head_norm_gate(h, o, as_row(w("multihead_norm.weight")), H, cfg.mixer.cell_norm_eps, cfg.mixer.cell_norm);
  return matmul(gated, w("out_proj.weight"), false, true);
}

template <class S>
Matrix<S> feed_forward(Params<S>& p, const std::string& name, const Matrix<S>& x) {
  const Matrix<S> gate = matmul(x, p.at(name + ".proj_up_gate.weight"), false, true),
                  up = matmul(x, p.at(name + ".proj_up.weight"), false, true);
  return matmul(swiglu(side_by_side(gate, up)), p.at(name + ".proj_down.weight"), false, true);
}

template <class S>
Matrix<S> block(const ModelConfig& cfg, Params<S>& p, const std::string& name, const Matrix<S>& x,
                const ModelTokens& tokens) {
  const Matrix<S> mid = added(x, mlstm_layer(cfg, p, name + ".mlstm_layer",
                                             rmsnorm(x, p.at(name + ".norm_mlstm.weight"), cfg.norm_eps), tokens));
  return added(mid, feed_forward(p, name + ".ffn", rmsnorm(mid, p.at(name + ".norm_ffn.weight"), cfg.norm_eps)));
}

// (rows, 1): cross-entropy of every token
template <class S>
Matrix<S> lm_head(const ModelConfig& cfg, Params<S>& p, const Matrix<S>& x, const std::vector<int>& targets) {
  const Matrix<S> normed = rmsnorm(x, p.at("out_norm.weight"), cfg.norm_eps);
  const Matrix<S> logits = matmul(normed, p.at("lm_head.weight"), false, true);
  return cross_entropy(logits, integers_as<S>(targets), cfg.output_logit_soft_cap);
}

template <class S>
Matrix<S> model_losses(const ModelConfig& cfg, Params<S>& p, const ModelTokens& tokens) {
  Matrix<S> x = embedding(integers_as<S>(tokens.ids), p.at("embedding.weight"));
  for (i64 l = 0; l < cfg.num_blocks; ++l) x = block(cfg, p, "blocks." + std::to_string(l), x, tokens);
  return lm_head(cfg, p, x, tokens.targets);
}

}  // namespace xlstm::ref
