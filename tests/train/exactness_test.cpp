// The exactness contract (docs/numerics.md): what must not change a bit of a run.
#include "tests/train/run_rig.h"

namespace xlstm {
namespace {

class Exactness : public testing::TestWithParam<std::tuple<InputGate, Precision>> {
 protected:
  TrainConfig config() const {
    TrainConfig cfg = tiny_run();
    std::tie(cfg.model.mixer.input_gate, cfg.run.precision) = GetParam();
    return cfg;
  }
  // The weights and losses of an uninterrupted run.
  void expect_as_reference(const TrainConfig& cfg, const char* what) {
    TempDir reference, other;
    ASSERT_EQ(run_in(reference.path(), config()), RunOutcome::finished);
    ASSERT_EQ(run_in(other.path(), cfg), RunOutcome::finished);
    EXPECT_EQ(final_weights(other.path()), final_weights(reference.path())) << what;
    EXPECT_EQ(metric(other.path(), "loss"), metric(reference.path(), "loss")) << what;
    EXPECT_EQ(metric(other.path(), "grad_norm"), metric(reference.path(), "grad_norm")) << what;
  }
};

TEST_P(Exactness, Threads) {
  TrainConfig cfg = config();
  cfg.run.threads = 1;
  expect_as_reference(cfg, "one thread");
  cfg.run.threads = 3;
  expect_as_reference(cfg, "three threads");
}

TEST_P(Exactness, Recompute) {
  TrainConfig cfg = config();
  cfg.train.recompute = Recompute::cheap;
  expect_as_reference(cfg, "cheap");
  cfg.train.recompute = Recompute::block;
  expect_as_reference(cfg, "block");
}

TEST_P(Exactness, WhatIsLoggedEvaluatedAndSaved) {
  TrainConfig cfg = config();
  cfg.checkpoint = {.every = 1, .keep = 1};
  cfg.eval = {.every = 1, .batches = 0};
  cfg.log.every = 1;
  expect_as_reference(cfg, "everything always");
  cfg.checkpoint.every = cfg.eval.every = 0;
  cfg.data.validation.clear();
  expect_as_reference(cfg, "nothing ever");
}

TEST_P(Exactness, Resume) {
  TempDir reference, stopped;
  ASSERT_EQ(run_in(reference.path(), config()), RunOutcome::finished);
  for (const i64 stop_at : {1, 3, 4, 9}) ASSERT_EQ(run_in(stopped.path(), config(), stop_at), RunOutcome::stopped);
  ASSERT_EQ(run_in(stopped.path(), config()), RunOutcome::finished);
  EXPECT_EQ(final_weights(stopped.path()), final_weights(reference.path()));
  EXPECT_EQ(metric(stopped.path(), "loss"), metric(reference.path(), "loss"));
  EXPECT_EQ(metric(stopped.path(), "validation_loss"), metric(reference.path(), "validation_loss"));
}

INSTANTIATE_TEST_SUITE_P(Runs, Exactness,
                         testing::Combine(testing::Values(InputGate::exp, InputGate::sigmoid),
                                          testing::Values(Precision::f32, Precision::bf16)),
                         [](const auto& p) {
                           const auto gate = static_cast<std::size_t>(std::get<InputGate>(p.param));
                           const auto precision = static_cast<std::size_t>(std::get<Precision>(p.param));
                           return std::string(names_of(InputGate{})[gate]) + "_" + names_of(Precision{})[precision];
                         });

// The gradients of a step are the fixed tree ((s0 + s1) + (s2 + s3)) of the slots' own gradients, to the bit.
TEST(ReductionSlots, AreSummedInAFixedTree) {
  TrainConfig cfg = tiny_run();
  cfg.resolve();
  ASSERT_EQ(cfg.parallel.reduction_slots, 4);
  const Dataset data = Dataset::open(cfg.data.train);

  const auto gradients = [&](const TrainConfig& c, i64 first_sequence) {
    TrainArenas arenas(measure_training(c, Device::cpu), nullptr);
    Context ctx{.isa = best_cpu_isa(), .scratch = &arenas.scratch};
    TrainState state(arenas, c);
    initialise(ctx, state.params, 1);
    TrainStep step(ctx, state, c);
    Loader loader(data, {.context_length = 24, .batch_size = c.train.batch_size, .first_sequence = first_sequence});
    TokenBatch batch;
    loader.next(batch);
    step.run(batch, 0, 1);
    const float* g = state.all_gradients.row<float>();
    return std::vector<float>(g, g + state.all_gradients.cols);
  };
  TrainConfig one_slot = cfg;
  one_slot.train.batch_size = cfg.train.batch_size / 4;
  one_slot.parallel.reduction_slots = 1;
  std::vector<std::vector<float>> slot;
  for (i64 s = 0; s < 4; ++s) slot.push_back(gradients(one_slot, s * one_slot.train.batch_size));
  const std::vector<float> whole = gradients(cfg, 0);
  for (std::size_t i = 0; i < whole.size(); ++i) {
    // Each slot alone is scaled by 4 times too much; a power of two, so the bits are the same otherwise.
    const float expected = ((slot[0][i] + slot[1][i]) + (slot[2][i] + slot[3][i])) / 4;
    ASSERT_EQ(whole[i], expected) << "element " << i;
  }
}

TEST(Memory, PlannedIsAllocatedIsUsed) {
  for (const auto& [policy, precision] : {std::pair{Recompute::none, Precision::f32},
                                          {Recompute::cheap, Precision::f32},
                                          {Recompute::block, Precision::f32},
                                          {Recompute::cheap, Precision::bf16}}) {
    TrainConfig cfg = tiny_run();
    cfg.train.recompute = policy;
    cfg.run.precision = precision;
    cfg.resolve();
    const std::vector<ArenaSize> planned = measure_training(cfg, Device::cpu);
    TrainArenas arenas(planned, nullptr);
    Context ctx{.isa = best_cpu_isa(), .scratch = &arenas.scratch};
    TrainState state(arenas, cfg);
    initialise(ctx, state.params, 1);
    const Dataset data = Dataset::open(cfg.data.train);
    Loader loader(data, {.context_length = 24, .batch_size = 8});
    TokenBatch batch;
    loader.next(batch);
    TrainStep(ctx, state, cfg).run(batch, 1e-3, 1);
    const std::vector<ArenaSize> used = arenas.sizes();
    for (std::size_t i = 0; i < used.size(); ++i) {
      if (used[i].name == "checkpoint snapshot") continue;  // the writer's, who is not here
      EXPECT_EQ(used[i].bytes, planned[i].bytes) << used[i].name;
    }
  }
}

}  // namespace
}  // namespace xlstm
