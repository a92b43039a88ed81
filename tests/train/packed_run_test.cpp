// Runs on packed rows: the same bits however they are interrupted or shared, and what is refused.
#include "tests/support/thread_ranks.h"
#include "tests/train/run_rig.h"
#include "train/run_data.h"

namespace xlstm {
namespace {

using testing::AllOf;
using testing::Each;
using testing::HasSubstr;

fs::path packed_dataset() {
  static const TempDir dir;
  static const bool made = [] {
    std::string text;
    for (const std::string& document : sample_documents(300)) text += Json{{"text", document}}.dump() + "\n";
    write_text(dir / "text.jsonl", text);
    build_dataset({.inputs = {(dir / "text.jsonl").string()},
                   .tokenizer = sample_tokenizer_path(),
                   .out = dir / "packed",
                   .validation_fraction = 0.1,
                   .row_tokens = 24});
    return true;
  }();
  EXPECT_TRUE(made);
  return dir / "packed";
}

TrainConfig packed_run() {
  TrainConfig cfg = tiny_run();
  cfg.data = {
      .train = packed_dataset().string(), .validation = packed_dataset().string(), .packing = Packing::first_fit};
  return cfg;
}

TEST(PackedRun, InterruptedOrOnRanksItHasTheSameBits) {
  TempDir whole, stopped, shared;
  ASSERT_EQ(run_in(whole.path(), packed_run()), RunOutcome::finished);
  ASSERT_EQ(run_in(stopped.path(), packed_run(), 7), RunOutcome::stopped);
  ASSERT_EQ(run_in(stopped.path(), packed_run()), RunOutcome::finished);
  TrainConfig cfg = packed_run();
  cfg.resolve();
  ASSERT_THAT(run_ranks(4, [&](Communicator& r) { Trainer(shared.path(), cfg, {"test"}, &r).run({}); }), Each(""));
  for (const fs::path& dir : {stopped.path(), shared.path()}) {
    EXPECT_EQ(final_weights(dir), final_weights(whole.path()));
    for (const char* key : {"loss", "validation_loss"}) EXPECT_EQ(metric(dir, key), metric(whole.path(), key)) << key;
  }

  // Evaluation reads windows, so that its numbers compare with those of other packings.
  TempDir stream;
  cfg.data.packing = Packing::concat;
  ASSERT_EQ(run_in(stream.path(), cfg), RunOutcome::finished);
  EXPECT_NE(final_weights(stream.path()), final_weights(whole.path()));
  EXPECT_EQ(metric(stream.path(), "validation_tokens"), metric(whole.path(), "validation_tokens"));
}

// The first update of a new model.
StepResult first_step(const TrainConfig& cfg, const TokenBatch& batch) {
  TrainArenas arenas(measure_training(cfg, Device::cpu), nullptr);
  Context ctx{.isa = best_cpu_isa(), .scratch = &arenas.scratch};
  TrainState state(arenas, cfg);
  initialise(ctx, state.params, 1);
  return TrainStep(ctx, state, cfg).run(batch, 1e-3, 1);
}

// The loss is a mean over what is predicted: padding is not in it, whatever stands there.
TEST(PackedRun, PaddingIsNotScored) {
  TrainConfig cfg = packed_run();
  cfg.resolve();
  const Mixture data = open_training_data(cfg);
  Loader loader(data.sequences(24, Packing::first_fit), {.batch_size = 8, .seed = 1});
  TokenBatch batch;
  do ASSERT_TRUE(loader.next(batch) && batch.first_sequence < data.sets()[0].data.manifest().rows());
  while (scored_tokens(batch) == 8 * 24);
  std::vector<StepResult> results;
  for (const int filling : {0, 7}) {
    for (std::size_t t = 0; t < batch.ids.size(); ++t)
      if (batch.targets[t] < 0) batch.ids[t] = filling;
    results.push_back(first_step(cfg, batch));
  }
  EXPECT_EQ(results[0].loss, results[1].loss);
  EXPECT_EQ(results[0].grad_norm, results[1].grad_norm);
  EXPECT_NEAR(results[0].loss, std::log(static_cast<double>(cfg.model.vocab_size)), 0.2);  // of an untrained model
}

TEST(PackedRun, WhatDoesNotFitIsRefused) {
  TempDir dir;
  TrainConfig cfg = packed_run();
  ASSERT_EQ(run_in(dir.path(), cfg, 2), RunOutcome::stopped);
  cfg.data.packing = Packing::concat;
  EXPECT_THAT(user_error_of([&] { run_in(dir.path(), cfg); }), HasSubstr("data.packing was first_fit, is concat"));
  cfg = packed_run();
  cfg.train.context_length = 32;
  EXPECT_THAT(user_error_of([&] { run_in(dir / "new", cfg); }),
              AllOf(HasSubstr("data.train: "), HasSubstr("is packed into rows of 24 tokens")));
  cfg = packed_run();
  cfg.data.train = tiny_dataset().string();
  EXPECT_THAT(user_error_of([&] { run_in(dir / "new", cfg); }),
              AllOf(HasSubstr("data.train: "), HasSubstr("not packed")));
}

// The file has its size, and every row of it could be read: one document would be left out, another come twice.
TEST(PackedRun, DamagedRowsAreRefusedBeforeAnythingIsMade) {
  TempDir dir;
  fs::copy(packed_dataset(), dir / "data", fs::copy_options::recursive);
  const fs::path file = dir / "data/train/shard_00000.rows";
  const Dataset data = Dataset::open(dir / "data");
  std::string bytes = read_file(file);
  const i64 rows = data.manifest().shards[0].rows;
  std::memcpy(&bytes[static_cast<std::size_t>(8 * (rows + 1))], &bytes[static_cast<std::size_t>(8 * (rows + 3))], 16);
  write_text(file, bytes);
  data.row(0);
  TrainConfig cfg = packed_run();
  cfg.data.train = (dir / "data").string();
  EXPECT_THAT(user_error_of([&] { run_in(dir / "run", cfg); }),
              AllOf(HasSubstr("data.train: "), HasSubstr("shard_00000.rows: damaged")));
  EXPECT_FALSE(fs::exists(dir / "run"));
  cfg.data.packing = Packing::concat;  // which reads no rows
  EXPECT_EQ(run_in(dir / "run", cfg), RunOutcome::finished);
}

}  // namespace
}  // namespace xlstm
