#pragma once
// SwiGLU feed-forward: y = residual + W_down (silu(W_gate x) * W_up x)      spec §6
#include "model/config.h"
#include "model/linear.h"
#include "model/saved.h"

namespace xlstm {

struct FeedForward {
  struct Saved {
    Tensor gate_up;  // (rows, 2 F)
    Tensor act;      // (rows, F)    cheap
  };

  i64 dim, hidden;
  Linear gate_up, down;

  FeedForward(ParamStore& ps, const std::string& name, const ModelConfig& cfg);

  Saved plan(SavePlan& p, DType t, i64 rows) const;
  void forward(Context& ctx, Tensor y, Tensor residual, Tensor x, const Saved& s) const;
  void rebuild(Context& ctx, const Saved& s) const;
  // dy is the residual's gradient, too; dx is x's alone.
  void backward(Context& ctx, Tensor dx, Tensor dy, Tensor x, const Saved& s) const;
};

}  // namespace xlstm
