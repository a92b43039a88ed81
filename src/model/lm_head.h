#pragma once
// Final norm, logits with soft cap, cross-entropy. Logits exist for one chunk of tokens at a time only (spec §6).
#include "model/config.h"
#include "model/linear.h"

namespace xlstm {

struct LmHead {
  i64 vocab_size;
  double logit_cap;
  RmsNorm norm;
  Linear out;

  LmHead(ParamStore& ps, const ModelConfig& cfg);

  // loss (rows, 1): cross-entropy of each row in nats.
  void forward(Context& ctx, Tensor loss, Tensor x, Tensor targets) const;
  // The same, and dx = d(scale * sum of loss)/dx (scale: (1, 1) f64), with the parameters' gradients added.
  void forward_backward(Context& ctx, Tensor dx, Tensor loss, Tensor x, Tensor targets, Tensor scale) const;
  // logits (rows, vocab): capped.
  void logits(Context& ctx, Tensor y, Tensor x) const;

 private:
  i64 chunk_rows(const Tensor& x) const;
  template <class F>
  void for_chunks(Context& ctx, const Tensor& x, F&& body) const;
};

}  // namespace xlstm
