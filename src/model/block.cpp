#include "model/block.h"

namespace xlstm {

Block::Block(ParamStore& ps, const std::string& name, const ModelConfig& cfg)
    : dim(cfg.embedding_dim),
      norm1(ps, name + ".norm_mlstm", dim, cfg.norm_eps),
      mixer(make_mixer(ps, name, cfg)),
      norm2(ps, name + ".norm_ffn", dim, cfg.norm_eps),
      ffn(ps, name + ".ffn", cfg) {}

Block::Saved Block::plan(SavePlan& p, DType t, i64 rows) const {
  return {.norm1 = p.cheap("norm1", t, rows, dim),
          .rstd1 = p.keep("rstd1", stat_type(t), rows, 1),
          .mixer = std::visit([&](const auto& m) -> Mixers::Saved { return m.plan(p, t, rows); }, mixer),
          .mid = p.keep("mid", t, rows, dim),
          .norm2 = p.cheap("norm2", t, rows, dim),
          .rstd2 = p.keep("rstd2", stat_type(t), rows, 1),
          .ffn = ffn.plan(p, t, rows)};
}

Mixers::State Block::plan_state(Arena& arena, DType t, i64 sequences) const {
  return std::visit([&](const auto& m) -> Mixers::State { return m.plan_state(arena, t, sequences); }, mixer);
}

void Block::normalise(Context& ctx, Tensor x, const Saved& s) const {
  visit_mixer(mixer, s.mixer, [&](const auto& m, const auto& ms) {
    norm1.forward_with_gates(ctx, s.norm1, s.rstd1, ms.gate_pre, x, m.gates);
  });
}

// mix(y, residual, x) is the mixer: over a whole sequence, from a state, or one token.
template <class Mix>
void Block::forward_with(Context& ctx, Tensor y, Tensor x, const Saved& s, Mix&& mix) const {
  normalise(ctx, x, s);
  mix(s.mid, x, s.norm1);

  norm2.forward(ctx, s.norm2, s.rstd2, s.mid);
  ffn.forward(ctx, y, s.mid, s.norm2, s.ffn);
}

void Block::forward(Context& ctx, Tensor y, Tensor x, const Saved& s, const SequenceView& seq) const {
  forward_with(ctx, y, x, s, [&](Tensor my, Tensor residual, Tensor mx) {
    visit_mixer(mixer, s.mixer, [&](const auto& m, const auto& ms) { m.forward(ctx, my, residual, mx, ms, seq); });
  });
}

// The lines of forward that write a cheap() tensor.
void Block::rebuild(Context& ctx, Tensor x, const Saved& s, const SequenceView& seq) const {
  normalise(ctx, x, s);
  visit_mixer(mixer, s.mixer, [&](const auto& m, const auto& ms) { m.rebuild(ctx, ms, seq); });
  norm2.forward(ctx, s.norm2, s.rstd2, s.mid);
  ffn.rebuild(ctx, s.ffn);
}

void Block::backward(Context& ctx, Tensor dx, Tensor dy, Tensor x, const Saved& s, const SequenceView& seq) const {
  const ScratchScope scope(*ctx.scratch);
  const Tensor dnorm = ctx.scratch->alloc("block.dnorm", x.dtype, x.rows, dim);
  const Tensor dmid = ctx.scratch->alloc("block.dmid", x.dtype, x.rows, dim);

  ffn.backward(ctx, dnorm, dy, s.norm2, s.ffn);
  norm2.backward(ctx, dmid, dnorm, /*dresidual=*/dy, s.mid, s.rstd2);

  visit_mixer(mixer, s.mixer, [&](const auto& m, const auto& ms) {
    const Tensor dgate_pre =
        ctx.scratch->alloc("block.dgate_pre", ms.gate_pre.dtype, ms.gate_pre.rows, ms.gate_pre.cols);
    m.backward(ctx, dnorm, dgate_pre, dmid, s.norm1, ms, seq);
    norm1.backward_with_gates(ctx, dx, dnorm, /*dresidual=*/dmid, dgate_pre, x, s.rstd1, m.gates);
    m.drop_fixed_gradients(ctx);
  });
}

void Block::prefill(Context& ctx, Tensor y, Tensor x, const Saved& s, const SequenceView& seq,
                    const Mixers::State& last, const Mixers::State& first) const {
  forward_with(ctx, y, x, s, [&](Tensor my, Tensor residual, Tensor mx) {
    visit_mixer(mixer, s.mixer, [&](const auto& m, const auto& ms) {
      using State = typename std::decay_t<decltype(m)>::State;
      m.forward_with_state(ctx, my, residual, mx, ms, seq, std::get<State>(last), std::get<State>(first));
    });
  });
}

void Block::step(Context& ctx, Tensor y, Tensor x, const Saved& s, const SequenceView& seq,
                 const Mixers::State& state) const {
  forward_with(ctx, y, x, s, [&](Tensor my, Tensor residual, Tensor mx) {
    visit_mixer(mixer, s.mixer, [&](const auto& m, const auto& ms) {
      m.step(ctx, my, residual, mx, ms, seq, std::get<typename std::decay_t<decltype(m)>::State>(state));
    });
  });
}

}  // namespace xlstm
