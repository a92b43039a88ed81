// Whole updates on AMX's tiles: the losses are those in registers, to the precision of the run; and weights that are
// packed once per update do not show in the bits.
#include <gtest/gtest.h>

#include "core/random.h"
#include "model/init.h"
#include "tests/support/op_case.h"
#include "train/step.h"
#include "train/weights.h"

namespace xlstm::test {
namespace {

TrainConfig small_run(Precision precision) {
  TrainConfig cfg;
  cfg.run.precision = precision;
  cfg.model = {.vocab_size = 160, .embedding_dim = 64, .num_blocks = 2};
  cfg.model.mixer = {.num_heads = 2, .chunk_size = 32};
  cfg.train = {.steps = 10, .batch_size = 4, .micro_batch_size = 2, .context_length = 72};
  cfg.resolve();
  return cfg;
}

TokenBatch random_tokens(const TrainConfig& cfg) {
  const RandomStream random(1, RandomUse::test, 31);
  TokenBatch batch{.sequences = cfg.train.batch_size, .length = cfg.train.context_length};
  for (i64 i = 0; i < cfg.train.batch_size * cfg.train.context_length; ++i) {
    const auto block = random.block(static_cast<std::uint64_t>(i));
    batch.ids.push_back(static_cast<std::int32_t>(block[0] % static_cast<std::uint32_t>(cfg.model.vocab_size)));
    batch.targets.push_back((batch.ids.back() * 7 + 3) % static_cast<std::int32_t>(cfg.model.vocab_size));
    batch.starts.push_back(i % cfg.train.context_length == 0 || block[1] % 50 == 0);
  }
  return batch;
}

struct Trained {
  std::vector<double> losses;
  std::vector<float> weights;
};

Trained train(Precision precision, CpuIsa isa, bool packed) {
  const TrainConfig cfg = small_run(precision);
  TrainArenas arenas(measure_training(cfg, Device::cpu), nullptr);
  Context ctx{.isa = isa, .scratch = &arenas.scratch};
  TrainState state(arenas, cfg);
  initialise(ctx, state.params, 1);
  state.round_parameters(ctx);
  TrainStep step(ctx, state, cfg);
  const Tensor row = state.params.flat_rounded();
  std::vector<std::byte> memory(static_cast<std::size_t>(row.bytes() + 1024));
  Arena arena("packed", memory.data(), static_cast<i64>(memory.size()));
  PackedWeights own(arena, row);
  ctx.packed = packed ? &own : nullptr;
  const TokenBatch batch = random_tokens(cfg);
  Trained t;
  for (i64 update = 1; update <= cfg.train.steps; ++update) t.losses.push_back(step.run(batch, 3e-3, update).loss);
  const Tensor all = state.params.flat_masters();
  t.weights.assign(all.row<float>(), all.row<float>() + all.cols);
  return t;
}

class TrainingOnTiles : public testing::TestWithParam<Precision> {};
INSTANTIATE_TEST_SUITE_P(Precisions, TrainingOnTiles, testing::Values(Precision::f32, Precision::bf16),
                         [](const auto& p) { return names_of(Precision{})[static_cast<std::size_t>(p.param)]; });

TEST_P(TrainingOnTiles, LearnsAsInRegisters) {
  if (!missing_for(CpuIsa::avx512).empty()) GTEST_SKIP() << missing_for(CpuIsa::avx512);
  const double close = GetParam() == Precision::bf16 ? 3e-3 : 1e-5;
  const Trained want = train(GetParam(), CpuIsa::avx512, false), got = train(GetParam(), CpuIsa::amx, false);
  for (std::size_t i = 0; i < want.losses.size(); ++i)
    EXPECT_NEAR(got.losses[i], want.losses[i], close * want.losses[i]) << "update " << i + 1;
  EXPECT_LT(got.losses.back(), 0.9 * got.losses.front());
  EXPECT_NE(got.weights, want.weights);  // it was not the same code
}

TEST_P(TrainingOnTiles, WeightsPackedOncePerUpdateGiveTheSameBits) {
  if (!missing_for(CpuIsa::avx512).empty()) GTEST_SKIP() << missing_for(CpuIsa::avx512);
  if (GetParam() == Precision::f32) return;  // they are bf16
  const Trained want = train(GetParam(), CpuIsa::amx, false), got = train(GetParam(), CpuIsa::amx, true);
  EXPECT_EQ(got.losses, want.losses);
  EXPECT_EQ(got.weights, want.weights);
}

}  // namespace
}  // namespace xlstm::test
