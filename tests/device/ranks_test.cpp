// Several ranks in bf16: each has the masters of its share alone, and the rounded weights of all.
#include <gmock/gmock.h>

#include "tests/support/thread_ranks.h"
#include "tests/train/run_rig.h"

namespace xlstm {
namespace {

TrainConfig shared_bf16_run() {
  TrainConfig cfg = tiny_run();
  cfg.run.device = DeviceChoice::cuda;
  cfg.run.precision = Precision::bf16;
  cfg.model.embedding_dim = 64;
  cfg.train = {.steps = 3, .batch_size = 4, .micro_batch_size = 1, .context_length = 16};
  cfg.checkpoint.every = 0;  // saves beside the run would need a turn of their own
  cfg.eval.every = 0;
  cfg.parallel.check_interval = 1;
  cfg.resolve();
  return cfg;
}

void train(const fs::path& dir, std::optional<i64> stop_at) {
  const auto wrong = run_ranks(
      2,
      [&](Communicator& ranks) {
        Trainer trainer(dir, shared_bf16_run(), {"test"}, &ranks);
        EXPECT_LT(trainer.state().own_masters.cols, trainer.state().params.flat_size());
        trainer.run(stop_at);
      },
      Turns::one_at_a_time);
  EXPECT_THAT(wrong, testing::Each(""));
}

TEST(DeviceRanks, SharedMastersHaveTheBitsOfWholeOnes) {
  TempDir one, two, parts;
  ASSERT_EQ(run_in(one.path(), shared_bf16_run()), RunOutcome::finished);
  train(two.path(), {});
  train(parts.path(), 1);
  ASSERT_EQ(run_in(parts.path(), shared_bf16_run(), 2), RunOutcome::stopped);
  train(parts.path(), {});
  for (const fs::path& dir : {two.path(), parts.path()}) {
    EXPECT_EQ(final_weights(dir), final_weights(one.path()));
    EXPECT_EQ(metric(dir, "loss"), metric(one.path(), "loss"));
    EXPECT_EQ(metric(dir, "grad_norm"), metric(one.path(), "grad_norm"));
  }
}

}  // namespace
}  // namespace xlstm
