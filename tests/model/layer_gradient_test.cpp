// Every gradient of every layer, its input's included, against the complex step of the layer's reference. A layer is
// tested alone, so that a failure names it.
#include <gtest/gtest.h>

#include <cmath>

#include "core/memory.h"
#include "core/random.h"
#include "tests/support/model_rig.h"

namespace xlstm {
namespace {

using C = std::complex<double>;

constexpr i64 kSequences = 2, kLength = 5, kRows = kSequences * kLength;

ModelConfig tiny(const CellKind& kind) {
  const auto [gate, norm] = kind;
  ModelConfig cfg{.vocab_size = 9, .embedding_dim = 6, .num_blocks = 1, .output_logit_soft_cap = 3};
  cfg.mixer = {.input_gate = gate,
               .num_heads = 2,
               .qk_dim_factor = 1 / 1.5,
               .gate_soft_cap = 4,
               .chunk_size = 3,
               .eps = 0,
               .cell_norm = norm,
               .cell_norm_eps = 0};
  cfg.ffn = {.proj_factor = 1.3, .round_up_to = 5};
  return cfg;
}

// What a layer's test needs besides the layer: tensors of f64, a dry pass first, then real memory.
struct LayerRig {
  explicit LayerRig(const CellKind& kind)
      : cfg(tiny(kind)), tokens(random_tokens(kSequences, kLength, cfg.vocab_size, 3, {3, 7})) {}

  Tensor tensor(i64 rows, i64 cols, DType t = DType::f64) { return memory.alloc("tensor", t, rows, cols); }

  // build() makes the layer; run() calls forward and backward once. Both run twice.
  template <class Build, class Run>
  void measure_and_run(Build&& build, Run&& run) {
    for (int pass = 0; pass < 2; ++pass) {
      if (pass == 1) get_memory();
      params = std::make_unique<ParamStore>(values, grads, DType::f64);
      ctx = {.isa = best_cpu_isa(), .scratch = &scratch};
      x = tensor(kRows, cfg.embedding_dim);
      y = tensor(kRows, cfg.embedding_dim);
      dy = tensor(kRows, cfg.embedding_dim);
      dx = tensor(kRows, cfg.embedding_dim);
      seq = {kSequences, kLength, tensor(kRows, 1, DType::i32)};
      build();
      if (pass == 1) fill();
      run();
    }
  }

  template <class S>
  ref::Matrix<S> matrix(const Tensor& t) const {
    return ref::make_matrix<S>(t.rows, t.cols, [&](i64 r, i64 c) { return S(t.row<double>(r)[c]); });
  }

  // Gradients of sum(dy * meaning(x, params)): dx overwritten, dw added to the 1 that was there.
  template <class Meaning>
  void check(Meaning&& meaning) {
    ref::Matrix<C> input = matrix<C>(x);
    ref::Params<C> p;
    for (const ParamInfo& info : params->all()) p[info.name] = matrix<C>(info.param.value);
    const auto derivative = [&](C& at) {
      constexpr double kStep = 1e-50;
      const C keep = at;
      at += C(0, kStep);
      const ref::Matrix<C> out = meaning(input, p);
      at = keep;
      C total = 0;
      for (i64 r = 0; r < out.rows; ++r)
        for (i64 c = 0; c < out.cols; ++c) total += dy.row<double>(r)[c] * out(r, c);
      return total.imag() / kStep;
    };
    const auto compare = [&](double got, double expected, const std::string& name, i64 r, i64 c) {
      EXPECT_NEAR(got, expected, 1e-10 * std::max(1.0, std::abs(expected))) << name << " (" << r << ", " << c << ")";
    };
    for (i64 r = 0; r < x.rows; ++r)
      for (i64 c = 0; c < x.cols; ++c) compare(dx.row<double>(r)[c], derivative(input(r, c)), "dx", r, c);
    for (const ParamInfo& info : params->all())
      for (i64 r = 0; r < info.param.grad.rows; ++r)
        for (i64 c = 0; c < info.param.grad.cols; ++c)
          compare(info.param.grad.row<double>(r)[c], 1 + derivative(p.at(info.name)(r, c)), info.name, r, c);
  }

  ModelConfig cfg;
  ref::ModelTokens tokens;
  Arena values = Arena::measuring("values"), grads = Arena::measuring("grads"), memory = Arena::measuring("memory"),
        scratch = Arena::measuring("scratch");
  std::unique_ptr<ParamStore> params;
  Context ctx;
  SequenceView seq;
  Tensor x, y, dy, dx;

 private:
  void get_memory() {
    for (Arena* a : {&values, &grads, &memory, &scratch}) {
      buffers_.emplace_back(std::max<i64>(a->peak(), 1));
      *a = Arena(a->name(), buffers_.back().data(), a->peak());
    }
  }

  void fill_normal(const Tensor& t, std::uint64_t number, double shift = 0) {
    const RandomStream random(7, RandomUse::test, number);
    for (i64 i = 0; i < t.size(); ++i) t.row<double>()[i] = shift + 0.7 * random.normal(static_cast<std::uint64_t>(i));
  }

  void fill() {
    fill_normal(x, 1);
    fill_normal(dy, 2);
    ops::fill(ctx, dx, std::nan(""));
    std::uint64_t number = 2;
    for (const ParamInfo& info : params->all()) {
      fill_normal(info.param.value, ++number, info.init.kind == Init::Kind::constant && info.init.a == 1 ? 1 : 0);
      ops::fill(ctx, info.param.grad, 1);
    }
    for (i64 r = 0; r < kRows; ++r) *seq.starts.row<std::int32_t>(r) = tokens.starts[static_cast<std::size_t>(r)];
  }

  std::vector<Buffer> buffers_;
};

class GateLayerGradient : public testing::TestWithParam<CellKind> {};

TEST_P(GateLayerGradient, MLstm) {
  LayerRig rig(GetParam());
  std::unique_ptr<MLstm> layer;
  MLstm::Saved saved;
  Tensor dgate_pre;
  rig.measure_and_run(
      [&] {
        layer = std::make_unique<MLstm>(*rig.params, "m", rig.cfg);
        SavePlan plan(rig.memory, rig.memory, Recompute::none);
        saved = layer->plan(plan, DType::f64, kRows);
        dgate_pre = rig.tensor(kRows, layer->gates.value.rows);
      },
      [&] {
        // The gates' product is the norm's that stands before the layer.
        ops::matmul(rig.ctx, saved.gate_pre, rig.x, layer->gates.value, {.transpose_b = true});
        layer->forward(rig.ctx, rig.y, /*residual=*/rig.x, rig.x, saved, rig.seq);
        layer->backward(rig.ctx, rig.dx, dgate_pre, rig.dy, rig.x, saved, rig.seq);
        ops::matmul(rig.ctx, layer->gates.grad, dgate_pre, rig.x, {.transpose_a = true, .accumulate = true});
        ops::matmul(rig.ctx, rig.dx, dgate_pre, layer->gates.value, {.accumulate = true});
      });
  rig.check([&](const auto& x, auto& p) { return ref::mlstm_layer(rig.cfg, p, "m", x, rig.tokens); });
}

TEST_P(GateLayerGradient, Block) {
  LayerRig rig(GetParam());
  std::unique_ptr<Block> layer;
  Block::Saved saved;
  rig.measure_and_run(
      [&] {
        layer = std::make_unique<Block>(*rig.params, "b", rig.cfg);
        SavePlan plan(rig.memory, rig.memory, Recompute::none);
        saved = layer->plan(plan, DType::f64, kRows);
      },
      [&] {
        layer->forward(rig.ctx, rig.y, rig.x, saved, rig.seq);
        layer->backward(rig.ctx, rig.dx, rig.dy, rig.x, saved, rig.seq);
      });
  rig.check([&](const auto& x, auto& p) { return ref::block(rig.cfg, p, "b", x, rig.tokens); });
}

INSTANTIATE_TEST_SUITE_P(Gates, GateLayerGradient,
                         testing::Combine(testing::Values(InputGate::exp, InputGate::sigmoid),
                                          testing::Values(HeadNorm::layernorm, HeadNorm::rmsnorm)),
                         [](const auto& p) { return name_of(p.param); });

TEST(LayerGradient, Linear) {
  LayerRig rig({InputGate::exp, HeadNorm::layernorm});
  Linear layer;
  const i64 D = rig.cfg.embedding_dim;
  rig.measure_and_run([&] { layer.w = rig.params->add("w", D, D, Init::zeros(), /*decay=*/true); },
                      [&] {
                        layer.forward(rig.ctx, rig.y, rig.x);
                        layer.backward(rig.ctx, rig.dx, rig.dy, rig.x);
                      });
  rig.check([&](const auto& x, auto& p) { return ref::matmul(x, p.at("w"), false, true); });
}

TEST(LayerGradient, RmsNorm) {
  LayerRig rig({InputGate::exp, HeadNorm::layernorm});
  std::unique_ptr<RmsNorm> layer;
  Tensor rstd;
  rig.measure_and_run(
      [&] {
        layer = std::make_unique<RmsNorm>(*rig.params, "n", rig.cfg.embedding_dim, 1e-3);
        rstd = rig.tensor(kRows, 1);
      },
      [&] {
        layer->forward(rig.ctx, rig.y, rstd, rig.x);
        layer->backward(rig.ctx, rig.dx, rig.dy, /*dresidual=*/{}, rig.x, rstd);
      });
  rig.check([&](const auto& x, auto& p) { return ref::rmsnorm(x, p.at("n.weight"), 1e-3); });
}

TEST(LayerGradient, FeedForward) {
  LayerRig rig({InputGate::exp, HeadNorm::layernorm});
  std::unique_ptr<FeedForward> layer;
  FeedForward::Saved saved;
  rig.measure_and_run(
      [&] {
        layer = std::make_unique<FeedForward>(*rig.params, "f", rig.cfg);
        SavePlan plan(rig.memory, rig.memory, Recompute::none);
        saved = layer->plan(plan, DType::f64, kRows);
      },
      [&] {
        layer->forward(rig.ctx, rig.y, /*residual=*/rig.x, rig.x, saved);
        layer->backward(rig.ctx, rig.dx, rig.dy, rig.x, saved);
      });
  rig.check([&](const auto& x, auto& p) { return ref::feed_forward(p, "f", x); });
}

// The head has no dy: its loss is what is differentiated, weighted by one scale.
TEST(LayerGradient, LmHead) {
  LayerRig rig({InputGate::exp, HeadNorm::layernorm});
  std::unique_ptr<LmHead> layer;
  Tensor loss, targets, scale;
  rig.tokens.targets[4] = -1;
  const double factor = 0.6;
  rig.measure_and_run(
      [&] {
        layer = std::make_unique<LmHead>(*rig.params, rig.cfg);
        loss = rig.tensor(kRows, 1);
        targets = rig.tensor(kRows, 1, DType::i32);
        scale = rig.tensor(1, 1);
      },
      [&] {
        if (!rig.ctx.dry()) {
          ops::fill(rig.ctx, rig.dy, factor);
          ops::fill(rig.ctx, scale, factor);
          for (i64 r = 0; r < kRows; ++r)
            *targets.row<std::int32_t>(r) = rig.tokens.targets[static_cast<std::size_t>(r)];
        }
        layer->forward_backward(rig.ctx, rig.dx, loss, rig.x, targets, scale);
      });
  rig.check([&](const auto& x, auto& p) { return ref::lm_head(rig.cfg, p, x, rig.tokens.targets); });
}

}  // namespace
}  // namespace xlstm
