#include "model/feed_forward.h"

#include "model/init.h"

namespace xlstm {

FeedForward::FeedForward(ParamStore& ps, const std::string& name, const ModelConfig& cfg)
    : dim(cfg.embedding_dim),
      hidden(cfg.ffn_dim()),
      gate_up{ps.add_fused({{name + ".proj_up_gate.weight", hidden, small_init(dim)},
                            {name + ".proj_up.weight", hidden, small_init(dim)}},
                           dim, /*decay=*/true)},
      down{ps.add(name + ".proj_down.weight", dim, hidden, wang_init(cfg), /*decay=*/true)} {}

FeedForward::Saved FeedForward::plan(SavePlan& p, DType t, i64 rows) const {
  return {.gate_up = p.keep("ffn.gate_up", t, rows, 2 * hidden), .act = p.cheap("ffn.act", t, rows, hidden)};
}

void FeedForward::forward(Context& ctx, Tensor y, Tensor residual, Tensor x, const Saved& s) const {
  const ClassScope in(ctx, OpClass::ffn);
  gate_up.forward(ctx, s.gate_up, x);
  ops::swiglu_forward(ctx, s.act, s.gate_up);
  down.forward_add(ctx, y, residual, s.act);
}

void FeedForward::rebuild(Context& ctx, const Saved& s) const {
  const ClassScope in(ctx, OpClass::ffn);
  ops::swiglu_forward(ctx, s.act, s.gate_up);
}

void FeedForward::backward(Context& ctx, Tensor dx, Tensor dy, Tensor x, const Saved& s) const {
  const ClassScope in(ctx, OpClass::ffn);
  const ScratchScope scope(*ctx.scratch);
  const Tensor dact = ctx.scratch->alloc("ffn.dact", x.dtype, x.rows, hidden);
  const Tensor dgate_up = ctx.scratch->alloc("ffn.dgate_up", x.dtype, x.rows, 2 * hidden);

  down.backward(ctx, dact, dy, s.act);
  ops::swiglu_backward(ctx, dgate_up, dact, s.gate_up);
  gate_up.backward(ctx, dx, dgate_up, x);
}

}  // namespace xlstm
