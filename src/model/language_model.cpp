#include "model/language_model.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "model/init.h"

namespace xlstm {

namespace {

// An extreme of no numbers; finite, because run.check wants every output to be.
constexpr float kNothingYet = std::numeric_limits<float>::max();

// `begins`: where each begins, and what follows them.
std::vector<Block> make_blocks(ParamStore& ps, const ModelConfig& cfg, std::vector<i64>& begins) {
  std::vector<Block> blocks;
  for (i64 l = 0; l < cfg.num_blocks; ++l) {
    begins.push_back(ps.flat_size());
    blocks.emplace_back(ps, fmt::format("blocks.{}", l), cfg);
  }
  begins.push_back(ps.flat_size());
  return blocks;
}

void call(const std::function<void(i64)>& hook, i64 part) {
  if (hook) hook(part);
}

}  // namespace

GateExtremes GateExtremes::none() { return {-INFINITY, INFINITY, -INFINITY, INFINITY}; }

void GateExtremes::include(const GateExtremes& other) {
  input_max = std::max(input_max, other.input_max), input_min = std::min(input_min, other.input_min);
  forget_max = std::max(forget_max, other.forget_max), forget_min = std::min(forget_min, other.forget_min);
}

LanguageModel::LanguageModel(ParamStore& ps, const ModelConfig& config)
    : cfg((config.check(), config)),
      embedding(ps.add("embedding.weight", cfg.vocab_size, cfg.embedding_dim, small_init(cfg.embedding_dim),
                       /*decay=*/false)),
      blocks(make_blocks(ps, cfg, part_begins)),
      head(ps, cfg) {
  part_begins.insert(part_begins.begin(), 0);
}

LanguageModel::Saved LanguageModel::plan(Arena& own, Arena& shared, Recompute policy, DType t, i64 rows) const {
  Saved s;
  for (const Block& b : blocks) {
    s.x.push_back(own.alloc("x", t, rows, cfg.embedding_dim));
    const i64 start = shared.mark();
    SavePlan p(own, shared, policy);
    s.blocks.push_back(b.plan(p, t, rows));
    shared.rewind(start);  // the next block uses these bytes again
  }
  s.x.push_back(own.alloc("x", t, rows, cfg.embedding_dim));
  return s;
}

LanguageModel::Saved LanguageModel::plan_forward(Arena& arena, DType t, i64 rows) const {
  const Tensor even = arena.alloc("x", t, rows, cfg.embedding_dim), odd = arena.alloc("x", t, rows, cfg.embedding_dim);
  SavePlan p(arena, arena, Recompute::none);
  const Block::Saved one = blocks[0].plan(p, t, rows);
  Saved s;
  for (std::size_t l = 0; l <= blocks.size(); ++l) s.x.push_back(l % 2 == 0 ? even : odd);
  s.blocks.assign(blocks.size(), one);
  return s;
}

LanguageModel::State LanguageModel::plan_state(Arena& arena, DType t, i64 sequences) const {
  State state;
  for (const Block& b : blocks) state.push_back(b.plan_state(arena, t, sequences));
  return state;
}

void LanguageModel::embed(Context& ctx, Tensor y, Tensor ids) const {
  const ClassScope in(ctx, OpClass::embedding);
  ops::embedding_forward(ctx, y, ids, embedding.value);
}

void LanguageModel::run_blocks(Context& ctx, const TokenRows& in, const Saved& s, const PassHooks& hooks) const {
  call(hooks.before_forward, 0);
  embed(ctx, s.x[0], in.ids);
  for (std::size_t l = 0; l < blocks.size(); ++l) {
    const LayerScope layer(ctx, l);
    call(hooks.before_forward, 1 + static_cast<i64>(l));
    blocks[l].forward(ctx, s.x[l + 1], s.x[l], s.blocks[l], in.seq);
  }
}

void LanguageModel::forward(Context& ctx, Tensor loss, const TokenRows& in, const Saved& s) const {
  run_blocks(ctx, in, s, {});
  head.forward(ctx, loss, s.x.back(), in.targets);
}

void LanguageModel::reset_gate_extremes(Context& ctx, const Saved& s) const {
  for (const Block::Saved& block : s.blocks) {
    const Tensor extremes = std::get<MLstm::Saved>(block.mixer).extremes;
    ops::fill(ctx, extremes.slice_rows(0, 1), -kNothingYet);
    ops::fill(ctx, extremes.slice_rows(1, 2), kNothingYet);
  }
}

std::vector<GateExtremes> LanguageModel::gate_extremes(Context& ctx, const Saved& s) const {
  std::vector<GateExtremes> all;
  for (const Block::Saved& block : s.blocks) {
    const Tensor extremes = std::get<MLstm::Saved>(block.mixer).extremes;
    XL_CHECK(extremes.dtype == DType::f32, "only a run's extremes are read");
    std::vector<float> values(static_cast<std::size_t>(extremes.size()));
    download(ctx, values.data(), extremes);
    const std::size_t gates = values.size() / 2, heads = gates / 2;
    GateExtremes of = GateExtremes::none();
    for (std::size_t j = 0; j < gates; ++j) {
      double &high = j < heads ? of.input_max : of.forget_max, &low = j < heads ? of.input_min : of.forget_min;
      high = std::max(high, static_cast<double>(values[j]));
      low = std::min(low, static_cast<double>(values[gates + j]));
    }
    all.push_back(of);
  }
  return all;
}

void LanguageModel::logits(Context& ctx, Tensor logits, const TokenRows& in, const Saved& s) const {
  run_blocks(ctx, in, s, {});
  head.logits(ctx, logits, s.x.back());
}

void LanguageModel::forward_backward(Context& ctx, Tensor loss, const TokenRows& in, const Saved& s, Recompute policy,
                                     Tensor scale, const PassHooks& hooks) const {
  const i64 last = 1 + cfg.num_blocks;
  const ScratchScope scope(*ctx.scratch);
  const Tensor dx = ctx.scratch->alloc("dx", s.x[0].dtype, s.x[0].rows, s.x[0].cols);
  run_blocks(ctx, in, s, hooks);
  call(hooks.before_forward, last);
  head.forward_backward(ctx, dx, loss, s.x.back(), in.targets, scale);
  call(hooks.after_backward, last);
  backward_blocks(ctx, dx, in, s, policy, hooks);
}

void LanguageModel::backward_blocks(Context& ctx, Tensor dy, const TokenRows& in, const Saved& s, Recompute policy,
                                    const PassHooks& hooks) const {
  Tensor dx = ctx.scratch->alloc("dx", dy.dtype, dy.rows, dy.cols);
  for (std::size_t l = blocks.size(); l-- > 0;) {
    const LayerScope layer(ctx, l);
    if (policy == Recompute::cheap) blocks[l].rebuild(ctx, s.x[l], s.blocks[l], in.seq);
    if (policy == Recompute::block) blocks[l].forward(ctx, s.x[l + 1], s.x[l], s.blocks[l], in.seq);
    blocks[l].backward(ctx, dx, dy, s.x[l], s.blocks[l], in.seq);
    call(hooks.after_backward, 1 + static_cast<i64>(l));
    std::swap(dx, dy);
  }
  const ClassScope scope(ctx, OpClass::embedding);
  ops::embedding_backward(ctx, embedding.grad, dy, in.ids);
  call(hooks.after_backward, 0);
}

void LanguageModel::prefill(Context& ctx, Tensor logits, Tensor ids, const SequenceView& seq, const Saved& s,
                            const State& last, const State& first) const {
  embed(ctx, s.x[0], ids);
  for (std::size_t l = 0; l < blocks.size(); ++l)
    blocks[l].prefill(ctx, s.x[l + 1], s.x[l], s.blocks[l], seq, last[l], first[l]);
  for (i64 b = 0; b < seq.sequences; ++b) {
    const i64 end = (b + 1) * seq.length;
    head.logits(ctx, logits.slice_rows(b, b + 1), s.x.back().slice_rows(end - 1, end));
  }
}

void LanguageModel::step(Context& ctx, Tensor logits, Tensor ids, const SequenceView& seq, const Saved& s,
                         const State& state) const {
  embed(ctx, s.x[0], ids);
  for (std::size_t l = 0; l < blocks.size(); ++l) blocks[l].step(ctx, s.x[l + 1], s.x[l], s.blocks[l], seq, state[l]);
  head.logits(ctx, logits, s.x.back());
}

}  // namespace xlstm
