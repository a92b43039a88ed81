// What is kept and what is computed again must not change a bit of a gradient, only memory.
#include <gtest/gtest.h>

#include "core/parallel.h"
#include "tests/support/model_rig.h"

namespace xlstm {
namespace {

ModelConfig small(InputGate gate) {
  ModelConfig cfg{.vocab_size = 97, .embedding_dim = 48, .num_blocks = 5};
  cfg.mixer = {.input_gate = gate, .num_heads = 3, .chunk_size = 16};
  return cfg;
}

std::vector<double> gradients(InputGate gate, Recompute policy, i64* bytes = nullptr) {
  ModelRig rig(small(gate), 2, 50, policy, DType::f32);
  rig.set_tokens(random_tokens(2, 50, 97, 3, {20, 71}));
  rig.forward_backward(0.01);
  if (bytes) *bytes = rig.activation_bytes();
  return rig.gradients();
}

class RecomputeBits : public testing::TestWithParam<InputGate> {};

TEST_P(RecomputeBits, GradientsAreTheSame) {
  i64 none = 0, cheap = 0, block = 0;
  const auto reference = gradients(GetParam(), Recompute::none, &none);
  EXPECT_EQ(gradients(GetParam(), Recompute::cheap, &cheap), reference);
  EXPECT_EQ(gradients(GetParam(), Recompute::block, &block), reference);
  EXPECT_LT(cheap, none);
  EXPECT_LT(block, cheap);
}

TEST_P(RecomputeBits, AnyNumberOfThreads) {
  set_threads(1);
  const auto reference = gradients(GetParam(), Recompute::none);
  for (const int threads : {2, 3}) {
    set_threads(threads);
    EXPECT_EQ(gradients(GetParam(), Recompute::none), reference) << threads << " threads";
  }
  set_threads(0);
}

INSTANTIATE_TEST_SUITE_P(Gates, RecomputeBits, testing::Values(InputGate::exp, InputGate::sigmoid),
                         [](const auto& p) { return names_of(InputGate{})[static_cast<std::size_t>(p.param)]; });

}  // namespace
}  // namespace xlstm
