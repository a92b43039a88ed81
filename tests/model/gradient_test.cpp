// Every gradient of a tiny language model against the complex step of the reference: exact derivatives, nothing to
// cancel. Both eps of the cell are 0, where the constant denominator of the backward pass is exact (spec §5.5).
#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/model_rig.h"

namespace xlstm {
namespace {

ModelConfig tiny(const CellKind& kind) {
  const auto [gate, norm] = kind;
  ModelConfig cfg{.vocab_size = 11, .embedding_dim = 8, .num_blocks = 2, .output_logit_soft_cap = 3};
  cfg.mixer = {.input_gate = gate,
               .num_heads = 2,
               .gate_soft_cap = 4,
               .chunk_size = 3,
               .eps = 0,
               .cell_norm = norm,
               .cell_norm_eps = 0};
  cfg.ffn = {.proj_factor = 1.3, .round_up_to = 3};
  return cfg;
}

class ModelGradient : public testing::TestWithParam<CellKind> {};

TEST_P(ModelGradient, LossIsTheReferences) {
  ModelRig rig(tiny(GetParam()), 2, 7);
  const ref::ModelTokens tokens = random_tokens(2, 7, rig.cfg.vocab_size, 5, {4, 9});
  rig.set_tokens(tokens);
  rig.forward_backward();
  auto p = rig.reference_params<double>();
  const auto expected = ref::model_losses(rig.cfg, p, tokens);
  const auto got = rig.losses();
  for (std::size_t r = 0; r < got.size(); ++r) EXPECT_NEAR(got[r], expected.values[r], 1e-12) << "row " << r;
}

TEST_P(ModelGradient, EveryParameterByTheComplexStep) {
  using C = std::complex<double>;
  ModelRig rig(tiny(GetParam()), 2, 7);
  ref::ModelTokens tokens = random_tokens(2, 7, rig.cfg.vocab_size, 5, {4, 9});
  tokens.targets[3] = -1;  // not scored
  rig.set_tokens(tokens);
  const double scale = 0.37;
  rig.forward_backward(scale);
  const std::vector<double> got = rig.gradients();

  auto p = rig.reference_params<C>();
  constexpr double kStep = 1e-50;
  std::size_t at = 0;
  for (const ParamInfo& info : rig.params->all()) {
    for (C& w : p.at(info.name).values) {
      const C keep = w;
      w += C(0, kStep);
      C total = 0;
      for (const C& loss : ref::model_losses(rig.cfg, p, tokens).values) total += loss;
      w = keep;
      const double expected = scale * total.imag() / kStep;
      ASSERT_NEAR(got[at], expected, 1e-10 * std::max(1.0, std::abs(expected))) << info.name << ", element " << at;
      ++at;
    }
  }
  ASSERT_EQ(at, got.size());
}

INSTANTIATE_TEST_SUITE_P(Gates, ModelGradient,
                         testing::Combine(testing::Values(InputGate::exp, InputGate::sigmoid),
                                          testing::Values(HeadNorm::layernorm, HeadNorm::rmsnorm)),
                         [](const auto& p) { return name_of(p.param); });

}  // namespace
}  // namespace xlstm
