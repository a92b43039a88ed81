#include "model/mlstm.h"

#include "core/parallel.h"
#include "model/init.h"

namespace xlstm {

MLstm::MLstm(ParamStore& ps, const std::string& name, const ModelConfig& model)
    : qk_dim(model.qk_dim()), v_dim(model.v_dim()), cfg(model.mixer) {
  const i64 d = model.embedding_dim, heads = cfg.num_heads;
  const Init small = small_init(d);
  qkvo.w = ps.add_fused({{name + ".q.weight", qk_dim, small},
                         {name + ".k.weight", qk_dim, small},
                         {name + ".v.weight", v_dim, small},
                         {name + ".ogate_preact.weight", v_dim, Init::zeros()}},
                        d, /*decay=*/true);
  gates = ps.add_fused(
      {{name + ".igate_preact.weight", heads, Init::zeros()}, {name + ".fgate_preact.weight", heads, Init::zeros()}}, d,
      /*decay=*/true, Use::exact);
  gate_bias = ps.add_fused(
      {{name + ".igate_preact.bias", heads, Init::constant(cfg.igate_bias_init)},
       {name + ".fgate_preact.bias", heads, Init::linspace(cfg.fgate_bias_init.from, cfg.fgate_bias_init.to)}},
      1, /*decay=*/false, Use::exact);
  gate_bias = {gate_bias.value.flat(), gate_bias.grad.flat()};
  norm = ps.add(name + ".multihead_norm.weight", 1, v_dim, Init::ones(), /*decay=*/false, Use::exact);
  out.w = ps.add(name + ".out_proj.weight", d, v_dim, wang_init(model), /*decay=*/true);
}

MLstm::Saved MLstm::plan(SavePlan& p, DType t, i64 rows) const {
  const i64 heads = cfg.num_heads;
  const DType st = stat_type(t);
  Saved s{.qkvo = p.keep("mlstm.qkvo", t, rows, 2 * qk_dim + 2 * v_dim),
          .gate_pre = p.cheap("mlstm.gate_pre", st, rows, 2 * heads),
          .log = {p.cheap("mlstm.log_i", st, rows, heads), p.cheap("mlstm.log_f", st, rows, heads)},
          .h = p.keep("mlstm.h", t, rows, v_dim),
          .stats = {},
          .mean = p.keep("mlstm.mean", st, rows, heads),
          .rstd = p.keep("mlstm.rstd", st, rows, heads),
          .gated = p.cheap("mlstm.gated", t, rows, v_dim),
          .extremes = p.always("mlstm.gate_extremes", st, 2, 2 * heads)};
  if (cfg.input_gate == InputGate::exp)
    s.stats = {p.keep("mlstm.denominator", st, rows, heads), p.keep("mlstm.max", st, rows, heads)};
  return s;
}

MLstm::State MLstm::plan_state(Arena& arena, DType t, i64 sequences) const {
  const i64 rows = sequences * cfg.num_heads, k = qk_dim / cfg.num_heads, v = v_dim / cfg.num_heads;
  const DType st = stat_type(t);
  State s{.c = arena.alloc("state.c", st, rows * k, v), .n = {}, .m = {}};
  if (cfg.input_gate == InputGate::exp) {
    s.n = arena.alloc("state.n", st, rows, k);
    s.m = arena.alloc("state.m", st, rows, 1);
  }
  return s;
}

CellInputs MLstm::cell_inputs(Tensor fused, Gates log) const {
  return {.q = fused.slice_cols(0, qk_dim),
          .k = fused.slice_cols(qk_dim, 2 * qk_dim),
          .v = fused.slice_cols(2 * qk_dim, 2 * qk_dim + v_dim),
          .log = log};
}

CellShape MLstm::shape(const Context& ctx, const SequenceView& seq) const {
  return {.sequences = seq.sequences,
          .heads = cfg.num_heads,
          .chunk = cfg.chunk_size,
          .normalize = cfg.input_gate == InputGate::exp,
          .eps = cfg.eps,
          .kernel = ctx.cell_kernel,
          .shared_bytes = ctx.gpu ? ctx.gpu->info().shared_bytes : kHopperSharedBytes,
          .architecture = ctx.gpu ? ctx.gpu->info().architecture : kHopperArchitecture};
}

Tensor MLstm::workspace(Context& ctx, const SequenceView& seq, DType t, bool backward) const {
  const i64 n = mlstm_workspace_elements(ctx.device, t, shape(ctx, seq), seq.length, qk_dim / cfg.num_heads,
                                         v_dim / cfg.num_heads, max_threads(), backward);
  return ctx.scratch->alloc("mlstm.workspace", stat_type(t), 1, n);
}

void MLstm::project(Context& ctx, Tensor x, const Saved& s, const SequenceView& seq) const {
  {
    const ClassScope in(ctx, OpClass::projections);
    qkvo.forward(ctx, s.qkvo, x);
  }
  const ClassScope in(ctx, OpClass::gates);
  ops::gates_forward(ctx, s.log, s.gate_pre, gate_bias.value, seq.starts, cfg.input_gate, cfg.gate_soft_cap);
}

void MLstm::read_out(Context& ctx, Tensor y, Tensor residual, const Saved& s) const {
  {
    const ClassScope in(ctx, OpClass::norms);
    ops::head_norm_gate_forward(ctx, s.gated, s.mean, s.rstd, s.h, ogate(s.qkvo), norm.value, cfg.cell_norm_eps,
                                cfg.cell_norm);
  }
  const ClassScope in(ctx, OpClass::projections);
  out.forward_add(ctx, y, residual, s.gated);
}

void MLstm::forward_with_state(Context& ctx, Tensor y, Tensor residual, Tensor x, const Saved& s,
                               const SequenceView& seq, State last, State first) const {
  project(ctx, x, s, seq);
  {
    const ClassScope in(ctx, OpClass::cell);
    const ScratchScope scope(*ctx.scratch);
    const Tensor ws = workspace(ctx, seq, x.dtype, /*backward=*/false);
    ops::mlstm_forward(ctx, s.h, s.stats, last, cell_inputs(s.qkvo, s.log), first, shape(ctx, seq), ws);
  }
  read_out(ctx, y, residual, s);
}

void MLstm::step(Context& ctx, Tensor y, Tensor residual, Tensor x, const Saved& s, const SequenceView& seq,
                 State state) const {
  project(ctx, x, s, seq);
  {
    const ClassScope in(ctx, OpClass::cell);
    ops::mlstm_step(ctx, s.h, state, cell_inputs(s.qkvo, s.log), shape(ctx, seq));
  }
  read_out(ctx, y, residual, s);
}

// The lines of forward that write a cheap() tensor.
void MLstm::rebuild(Context& ctx, const Saved& s, const SequenceView& seq) const {
  {
    const ClassScope in(ctx, OpClass::gates);
    ops::gates_forward(ctx, s.log, s.gate_pre, gate_bias.value, seq.starts, cfg.input_gate, cfg.gate_soft_cap);
  }
  const ClassScope in(ctx, OpClass::norms);
  ops::head_norm_gate_forward(ctx, s.gated, s.mean, s.rstd, s.h, ogate(s.qkvo), norm.value, cfg.cell_norm_eps,
                              cfg.cell_norm);
}

void MLstm::backward(Context& ctx, Tensor dx, Tensor dgate_pre, Tensor dy, Tensor x, const Saved& s,
                     const SequenceView& seq) const {
  const ScratchScope scope(*ctx.scratch);
  const i64 rows = x.rows, heads = cfg.num_heads;
  const DType st = stat_type(x.dtype);
  const Tensor dgated = ctx.scratch->alloc("mlstm.dgated", x.dtype, rows, v_dim);
  const Tensor dh = ctx.scratch->alloc("mlstm.dh", x.dtype, rows, v_dim);
  const Tensor dqkvo = ctx.scratch->alloc("mlstm.dqkvo", x.dtype, rows, s.qkvo.cols);
  const Gates dlog{ctx.scratch->alloc("mlstm.dlog_i", st, rows, heads),
                   ctx.scratch->alloc("mlstm.dlog_f", st, rows, heads)};
  {
    const ClassScope in(ctx, OpClass::projections);
    out.backward(ctx, dgated, dy, s.gated);
  }
  {
    const ClassScope in(ctx, OpClass::norms);
    ops::head_norm_gate_backward(ctx, dh, ogate(dqkvo), norm.grad, dgated, s.h, ogate(s.qkvo), norm.value, s.mean,
                                 s.rstd, cfg.cell_norm);
  }
  {
    const ClassScope in(ctx, OpClass::cell);
    const ScratchScope cell_scope(*ctx.scratch);
    const Tensor ws = workspace(ctx, seq, x.dtype, /*backward=*/true);
    ops::mlstm_backward(ctx, cell_inputs(dqkvo, dlog), /*dfirst=*/{}, dh, /*dlast=*/{}, cell_inputs(s.qkvo, s.log),
                        s.stats,
                        /*first=*/{}, shape(ctx, seq), ws);
  }
  {
    const ClassScope in(ctx, OpClass::projections);
    qkvo.backward(ctx, dx, dqkvo, x);
  }
  const ClassScope in(ctx, OpClass::gates);
  ops::gates_backward(ctx, dgate_pre, gate_bias.grad, dlog, s.gate_pre, gate_bias.value, seq.starts, cfg.input_gate,
                      cfg.gate_soft_cap);
}

void MLstm::drop_fixed_gradients(Context& ctx) const {
  if (cfg.igate_learnable) return;
  const i64 heads = cfg.num_heads;
  ops::fill(ctx, gates.grad.slice_rows(0, heads), 0);
  ops::fill(ctx, gate_bias.grad.slice_cols(0, heads), 0);
}

}  // namespace xlstm
