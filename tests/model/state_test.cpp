// A model with a carried state says the same as one pass over everything; a packed row says the same as its documents.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "model/sampler.h"
#include "tests/support/model_rig.h"

namespace xlstm {
namespace {

ModelConfig small(InputGate gate) {
  ModelConfig cfg{.vocab_size = 31, .embedding_dim = 24, .num_blocks = 3};
  cfg.mixer = {.input_gate = gate, .num_heads = 2, .chunk_size = 5};
  return cfg;
}

class ModelState : public testing::TestWithParam<InputGate> {};

// Prefill of any part of a sequence, then single steps: the logits of the last token are those of one long prefill.
TEST_P(ModelState, PrefillAndStepsAreOnePass) {
  constexpr i64 kLength = 13;
  ModelRig rig(small(GetParam()), 1, kLength);
  rig.set_tokens(random_tokens(1, kLength, 31, 8, {4}));
  Buffer memory(1 << 22);
  Arena arena("state", memory.data(), memory.bytes());
  const auto state = [&] { return rig.model->plan_state(arena, DType::f64, 1); };
  const auto logits = [&] { return arena.alloc("logits", DType::f64, 1, 31); };
  const LanguageModel::State none(rig.model->blocks.size(), CellState{});

  const auto run = [&](i64 begin, i64 end, const LanguageModel::State& last, const LanguageModel::State& first) {
    const Tensor out = logits();
    const SequenceView seq{1, end - begin, rig.in.seq.starts.slice_rows(begin, end)};
    rig.model->prefill(rig.ctx, out, rig.in.ids.slice_rows(begin, end), seq,
                       rig.model->plan_forward(arena, DType::f64, end - begin), last, first);
    return out;
  };
  const Tensor whole = run(0, kLength, state(), none);
  for (const i64 split : {1, 4, 6, 12}) {
    const LanguageModel::State carried = state();
    Tensor got = run(0, split, carried, none);
    for (i64 t = split; t < kLength; ++t) {
      got = logits();
      const SequenceView seq{1, 1, rig.in.seq.starts.slice_rows(t, t + 1)};
      rig.model->step(rig.ctx, got, rig.in.ids.slice_rows(t, t + 1), seq, rig.model->plan_forward(arena, DType::f64, 1),
                      carried);
    }
    for (i64 j = 0; j < 31; ++j) EXPECT_NEAR(got.row<double>()[j], whole.row<double>()[j], 1e-11) << "split " << split;

    const LanguageModel::State first = state(), last = state();
    run(0, split, first, none);
    got = run(split, kLength, last, first);
    for (i64 j = 0; j < 31; ++j) EXPECT_NEAR(got.row<double>()[j], whole.row<double>()[j], 1e-11) << "split " << split;
  }
}

// Three documents in one row against each alone: losses and the sum of their gradients.
TEST_P(ModelState, PackedIsApart) {
  const std::vector<i64> begins{0, 3, 4, 17};
  ModelRig packed(small(GetParam()), 1, 17);
  const ref::ModelTokens tokens = random_tokens(1, 17, 31, 4, {3, 4});
  packed.set_tokens(tokens);
  packed.forward_backward();
  const auto losses = packed.losses();

  std::vector<double> sum(packed.gradients().size(), 0);
  for (std::size_t d = 0; d + 1 < begins.size(); ++d) {
    const i64 length = begins[d + 1] - begins[d];
    ModelRig alone(small(GetParam()), 1, length);
    ref::ModelTokens part{1, length, {}, {}, {}};
    for (i64 t = begins[d]; t < begins[d + 1]; ++t) {
      part.ids.push_back(tokens.ids[std::size_t(t)]);
      part.targets.push_back(tokens.targets[std::size_t(t)]);
      part.starts.push_back(tokens.starts[std::size_t(t)]);
    }
    alone.set_tokens(part);
    alone.forward_backward();
    const auto alone_losses = alone.losses();
    for (i64 t = 0; t < length; ++t)
      EXPECT_NEAR(alone_losses[std::size_t(t)], losses[std::size_t(begins[d] + t)], 1e-12);
    const auto g = alone.gradients();
    for (std::size_t i = 0; i < g.size(); ++i) sum[i] += g[i];
  }
  const auto whole = packed.gradients();
  for (std::size_t i = 0; i < sum.size(); ++i)
    ASSERT_NEAR(sum[i], whole[i], 1e-11 * std::max(1.0, std::abs(whole[i]))) << i;
}

INSTANTIATE_TEST_SUITE_P(Gates, ModelState, testing::Values(InputGate::exp, InputGate::sigmoid),
                         [](const auto& p) { return names_of(InputGate{})[static_cast<std::size_t>(p.param)]; });

std::vector<int> first_ids(int n) {
  std::vector<int> ids(static_cast<std::size_t>(n));
  std::iota(ids.begin(), ids.end(), 0);
  return ids;
}

TEST(Sampler, GreedyTakesTheSmallestOfEqualIds) {
  const std::vector<float> logits{0, 2, 1, 2};
  Sampler greedy({.temperature = 0}, first_ids(4));
  EXPECT_EQ(greedy.sample(logits.data(), 0, 0), 1);
}

TEST(Sampler, FollowsTheDistribution) {
  const std::vector<float> logits{std::log(1.f), std::log(2.f), std::log(5.f)};
  Sampler sampler({.seed = 3}, first_ids(3));
  std::vector<int> count(3);
  for (std::uint64_t i = 0; i < 8000; ++i) ++count[std::size_t(sampler.sample(logits.data(), 0, i))];
  EXPECT_NEAR(count[0], 1000, 150);
  EXPECT_NEAR(count[1], 2000, 200);
  EXPECT_NEAR(count[2], 5000, 200);
}

TEST(Sampler, TopKAndTopPCutTheTail) {
  const std::vector<float> logits{std::log(1.f), std::log(2.f), std::log(5.f), std::log(4.f)};
  Sampler two({.top_k = 2, .seed = 1}, first_ids(4));
  Sampler most({.top_p = 0.7, .seed = 1}, first_ids(4));  // 5/12 + 4/12 = 0.75 covers 0.7
  for (std::uint64_t i = 0; i < 300; ++i) {
    EXPECT_GE(two.sample(logits.data(), 0, i), 2);
    EXPECT_GE(most.sample(logits.data(), 0, i), 2);
  }
}

// However likely another one is, and with a top-k that counts only those.
TEST(Sampler, DrawsOnlyFromItsIds) {
  const std::vector<float> logits{9, 1, 0, 9, 1};
  Sampler some({.temperature = 100}, {1, 2, 4}), one({.top_k = 1}, {2, 4}), greedy({.temperature = 0}, {1, 2, 4});
  std::vector<int> count(5);
  for (std::uint64_t i = 0; i < 300; ++i) {
    ++count[std::size_t(some.sample(logits.data(), 0, i))];
    EXPECT_EQ(one.sample(logits.data(), 0, i), 4);
  }
  EXPECT_EQ(greedy.sample(logits.data(), 0, 0), 1);
  EXPECT_EQ(count[0] + count[3], 0);
  EXPECT_GT(std::min({count[1], count[2], count[4]}), 50);
}

TEST(Sampler, OptionsAreFiniteAndInRange) {
  constexpr double kInf = std::numeric_limits<double>::infinity(), kNan = std::numeric_limits<double>::quiet_NaN();
  for (const double bad : {kInf, -kInf, kNan, -1.0})
    EXPECT_THROW((SamplingConfig{.temperature = bad}.check()), UserError) << bad;
  for (const double bad : {kInf, -kInf, kNan, 0.0, 1.5})
    EXPECT_THROW((SamplingConfig{.top_p = bad}.check()), UserError) << bad;
  EXPECT_THROW(SamplingConfig{.top_k = -1}.check(), UserError);
}

}  // namespace
}  // namespace xlstm
