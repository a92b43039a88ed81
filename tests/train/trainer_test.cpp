// Runs as a user meets them: they learn, stop on a signal, survive damage, and refuse what does not fit.
#include <atomic>
#include <csignal>
#include <map>
#include <thread>

#include "tests/train/checkpoint_cases.h"
#include "tests/train/run_rig.h"

namespace xlstm {
namespace {

// Nats per token of a model that knows only how often each token comes.
double unigram_entropy(const Dataset& data) {
  std::map<std::int32_t, double> count;
  std::vector<std::int32_t> tokens(static_cast<std::size_t>(data.total_tokens()));
  data.read(0, data.total_tokens(), tokens.data());
  for (const std::int32_t t : tokens) ++count[t];
  double entropy = 0;
  for (const auto& [token, c] : count) entropy -= c / double(tokens.size()) * std::log(c / double(tokens.size()));
  return entropy;
}

class Learning : public testing::TestWithParam<InputGate> {};

TEST_P(Learning, OneBatchByHeart) {
  TrainConfig cfg = tiny_run();
  cfg.model.mixer.input_gate = GetParam();
  cfg.optimizer.lr = 1e-2;
  cfg.resolve();
  const Dataset data = Dataset::open(cfg.data.train);
  TrainArenas arenas(measure_training(cfg, Device::cpu), nullptr);
  Context ctx{.isa = best_cpu_isa(), .scratch = &arenas.scratch};
  TrainState state(arenas, cfg);
  initialise(ctx, state.params, 1);
  TrainStep step(ctx, state, cfg);
  Loader loader(data, {.context_length = 24, .batch_size = 8});
  TokenBatch batch;
  loader.next(batch);
  double loss = 0;
  for (i64 t = 1; t <= 150; ++t) loss = step.run(batch, 1e-2, t).loss;
  EXPECT_LT(loss, 0.05);
}

TEST_P(Learning, FallsWellBelowTheUnigramEntropy) {
  TrainConfig cfg = tiny_run();
  cfg.model.mixer.input_gate = GetParam();
  cfg.train.steps = 150;
  cfg.optimizer.lr = 1e-2;
  TempDir dir;
  ASSERT_EQ(run_in(dir.path(), cfg), RunOutcome::finished);
  const double entropy = unigram_entropy(Dataset::open(cfg.data.validation, "validation"));
  EXPECT_LT(metric(dir.path(), "validation_loss").back(), 0.8 * entropy);
}

INSTANTIATE_TEST_SUITE_P(Gates, Learning, testing::Values(InputGate::exp, InputGate::sigmoid),
                         [](const auto& p) { return names_of(InputGate{})[static_cast<std::size_t>(p.param)]; });

TEST(Trainer, SignalSavesAndStops) {
  TempDir dir, reference;
  TrainConfig cfg = tiny_run();
  cfg.train.steps = 400;
  cfg.checkpoint.every = 0;
  std::thread sender([&] {
    while (!fs::exists(dir / "metrics.jsonl") || fs::file_size(dir / "metrics.jsonl") == 0)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    kill(getpid(), SIGTERM);
  });
  const RunOutcome outcome = run_in(dir.path(), cfg);
  sender.join();
  ASSERT_EQ(outcome, RunOutcome::stopped);
  const i64 step = open_newest_checkpoint(dir.path()).step();
  EXPECT_GT(step, 0);
  EXPECT_LT(step, 400);
  EXPECT_EQ(static_cast<i64>(metric(dir.path(), "loss").size()), step);
}

// The signal comes when the line of a step is written, just before the evaluation of that step; the next start makes up
// for it.
TEST(Trainer, SignalEndsAnEvaluation) {
  for (const i64 step : {5, 12}) {
    TempDir dir;
    TrainConfig cfg = tiny_run();
    cfg.eval = {.every = 5, .batches = 0};
    cfg.resolve();
    const std::thread::id training = std::this_thread::get_id();
    {
      Trainer trainer(dir.path(), cfg, {"test"});
      bool sent = false;
      const HookScope signal([&](const char* call) {
        if (std::string(call) == "write" && std::this_thread::get_id() == training && !sent &&
            trainer.progression().step == step)
          sent = (raise(SIGTERM), true);
        return 0;
      });
      EXPECT_EQ(trainer.run(std::nullopt), RunOutcome::stopped);
    }
    EXPECT_EQ(open_newest_checkpoint(dir.path()).step(), step);
    EXPECT_EQ(metric(dir.path(), "validation_loss").size(), step == 5 ? 0u : 2u);
    ASSERT_EQ(run_in(dir.path(), cfg), RunOutcome::finished);
    EXPECT_EQ(metric(dir.path(), "validation_loss").size(), 3u);
  }
}

TEST(Trainer, ADamagedCheckpointIsSkippedAndNothingIsLost) {
  TempDir reference, damaged;
  ASSERT_EQ(run_in(reference.path(), tiny_run()), RunOutcome::finished);
  ASSERT_EQ(run_in(damaged.path(), tiny_run(), 9), RunOutcome::stopped);
  const fs::path file = damaged / "checkpoints/step_00000009/params.safetensors";
  std::string bytes = read_file(file);
  bytes[bytes.size() - 5] ^= 1;
  write_text(file, bytes);
  ASSERT_EQ(run_in(damaged.path(), tiny_run()), RunOutcome::finished);
  EXPECT_EQ(final_weights(damaged.path()), final_weights(reference.path()));
}

TEST(Trainer, AFullDiskDoesNotEndTheRun) {
  TempDir reference, full;
  ASSERT_EQ(run_in(reference.path(), tiny_run()), RunOutcome::finished);
  TrainConfig cfg = tiny_run();
  cfg.resolve();
  Trainer trainer(full.path(), cfg, {"test"});
  // The disk is full while steps 4 to 9 are made; the step is read off the metrics, which are written in this thread.
  std::atomic<int> metrics_lines = 0;
  const std::thread::id training = std::this_thread::get_id();
  const auto hook = [&](const char* call) {
    if (std::string(call) != "write") return 0;
    if (std::this_thread::get_id() == training) ++metrics_lines;
    return metrics_lines > 4 && metrics_lines < 10 ? ENOSPC : 0;
  };
  RunOutcome outcome;
  {
    const HookScope full_disk(hook);
    outcome = trainer.run(std::nullopt);
  }
  EXPECT_EQ(outcome, RunOutcome::finished);
  EXPECT_EQ(final_weights(full.path()), final_weights(reference.path()));
}

TEST(Trainer, NonFiniteGradientsChangeNoWeightAndStopTheRun) {
  TempDir dir;
  TrainConfig cfg = tiny_run();
  cfg.guard.max_skips = 3;
  cfg.resolve();
  Trainer trainer(dir.path(), cfg, {"test"});
  const Tensor w = trainer.state().params.all().back().param.value;
  *w.row<float>() = NAN;
  const float untouched = w.row<float>()[1];
  EXPECT_EQ(trainer.run(std::nullopt), RunOutcome::diverged);
  EXPECT_EQ(trainer.progression().step, 4);
  EXPECT_EQ(trainer.progression().updates, 0);
  EXPECT_EQ(w.row<float>()[1], untouched);
}

TEST(Trainer, RefusesWhatIsNotTheSameRun) {
  TempDir dir;
  ASSERT_EQ(run_in(dir.path(), tiny_run(), 2), RunOutcome::stopped);
  TrainConfig other = tiny_run();
  other.optimizer.lr = 1e-2;
  EXPECT_THAT(user_error_of([&] { run_in(dir.path(), other); }), testing::HasSubstr("optimizer.lr was 0.003, is 0.01"));
  other = tiny_run();
  other.model.num_blocks = 3;
  EXPECT_THAT(user_error_of([&] { run_in(dir.path(), other); }), testing::HasSubstr("model.num_blocks was 2, is 3"));
  other = tiny_run();
  other.data.train = (tiny_dataset() / "validation").string();
  EXPECT_THAT(user_error_of([&] { run_in(dir.path(), other); }), testing::HasSubstr("trained on data"));
  other = tiny_run();
  other.model.vocab_size = 100;
  EXPECT_THAT(user_error_of([&] { run_in(dir / "new", other); }), testing::HasSubstr("model.vocab_size"));
}

// One head makes gate matrices of one row: they stay matrices in a checkpoint, as in the xlstm package.
TEST(Trainer, TheGatesOfOneHeadAreStoredAsMatrices) {
  TempDir dir;
  TrainConfig cfg = tiny_run();
  cfg.model.mixer.num_heads = 1;
  cfg.train.steps = 4;
  cfg.checkpoint.every = 2;  // in the background, too: from the snapshot
  ASSERT_EQ(run_in(dir.path(), cfg), RunOutcome::finished);
  for (const char* step : {"step_00000002", "step_00000004"}) {
    const CheckpointReader saved(dir / "checkpoints" / step);
    std::map<std::string, std::vector<i64>> shapes;
    for (const auto* list : {&saved.params(), &saved.optimizer()})
      for (const StoredTensor& t : *list) shapes[t.entry->name] = t.entry->shape;
    const std::string gate = "blocks.0.mlstm_layer.igate_preact.";
    EXPECT_EQ(shapes[gate + "weight"], (std::vector<i64>{1, 32}));
    EXPECT_EQ(shapes["m." + gate + "weight"], (std::vector<i64>{1, 32}));
    EXPECT_EQ(shapes[gate + "bias"], (std::vector<i64>{1}));
    EXPECT_EQ(shapes["out_norm.weight"], (std::vector<i64>{32}));
  }
}

TEST(Trainer, OneProcessPerRunDirectory) {
  TempDir dir;
  TrainConfig cfg = tiny_run();
  cfg.resolve();
  const Trainer living(dir.path(), cfg, {"test"});
  EXPECT_THAT(user_error_of([&] { run_in(dir.path(), tiny_run()); }),
              testing::HasSubstr(fmt::format("in use by process {}", getpid())));
}

TEST(Trainer, HalfWrittenMetricsAreMended) {
  TempDir dir;
  ASSERT_EQ(run_in(dir.path(), tiny_run(), 6), RunOutcome::stopped);
  write_text(
      dir / "metrics.jsonl",
      read_file(dir / "metrics.jsonl") +
          "{\"step\": 7, \"loss\": 1}\n[]\n{\"step\": \"x\"}\n{\"step\": 1e99}\n{\"step\": 1e999}\n{\"step\": 8, \"lo");
  const std::string damaged = read_file(dir / "metrics.jsonl");
  ASSERT_EQ(run_in(dir.path(), tiny_run()), RunOutcome::finished);
  EXPECT_EQ(metric(dir.path(), "loss").size(), 12u);
  EXPECT_EQ(read_file(dir / "metrics.jsonl.damaged-1"), damaged);
}

// What a kill leaves is mended without a word; a file of somebody, and the metrics of checkpoints that are gone, stay.
TEST(Trainer, MetricsAreNeverThrownAway) {
  TempDir dir;
  ASSERT_EQ(run_in(dir.path(), tiny_run(), 6), RunOutcome::stopped);
  const std::string whole = read_file(dir / "metrics.jsonl");
  write_text(dir / "metrics.jsonl", whole + "{\"step\":7,\"lo");
  ASSERT_EQ(run_in(dir.path(), tiny_run(), 7), RunOutcome::stopped);
  EXPECT_FALSE(fs::exists(dir / "metrics.jsonl.damaged-1"));
  for (const char* foreign : {"garbage", "other: 1\nlines: 2\n"}) {
    fs::remove_all(dir / "metrics.jsonl.damaged-1");
    write_text(dir / "metrics.jsonl", foreign);
    fs::copy(dir / "checkpoints", dir / "kept", fs::copy_options::recursive);
    ASSERT_EQ(run_in(dir.path(), tiny_run(), 8), RunOutcome::stopped);
    fs::remove_all(dir / "checkpoints");
    fs::rename(dir / "kept", dir / "checkpoints");
    EXPECT_EQ(read_file(dir / "metrics.jsonl.damaged-1"), foreign);
  }
  write_text(dir / "metrics.jsonl", whole);
  write_text(dir / "environment.json", "mine");
  fs::remove_all(dir / "checkpoints");
  ASSERT_EQ(run_in(dir.path(), tiny_run()), RunOutcome::finished);
  EXPECT_EQ(read_file(dir / "metrics.jsonl.old-1"), whole);
  EXPECT_EQ(read_file(dir / "environment.json.damaged-1"), "mine");
  EXPECT_EQ(metric(dir.path(), "loss").size(), 12u);
}

TEST(Trainer, TheLastSaveWaitsForRoomOnTheDisk) {
  TempDir reference, full;
  ASSERT_EQ(run_in(reference.path(), tiny_run()), RunOutcome::finished);
  TrainConfig cfg = tiny_run();
  cfg.checkpoint.every = 0;
  cfg.data.validation = "";
  cfg.resolve();
  Trainer trainer(full.path(), cfg, {"test"});
  int refused = 0;
  const HookScope full_disk([&](const char* call) {
    return trainer.progression().step == 12 && std::string(call) == "fsync" && refused++ < 2 ? ENOSPC : 0;
  });
  EXPECT_EQ(trainer.run(std::nullopt), RunOutcome::finished);
  EXPECT_GE(refused, 2);
  EXPECT_EQ(final_weights(full.path()), final_weights(reference.path()));
}

// A copy of the data set in which one id of `part` is beyond the vocabulary; only reading it tells.
void copy_with_bad_id(const fs::path& to, const std::string& part) {
  fs::copy(tiny_dataset(), to, fs::copy_options::recursive);
  const fs::path shard = to / part / "shard_00000.tokens";
  std::string bytes = read_file(shard);
  const std::size_t at = bytes.size() / 4 * 2;
  bytes[at] = bytes[at + 1] = '\xff';
  write_text(shard, bytes);
}

TEST(Trainer, BadValidationDataEndsNoRun) {
  TempDir reference, dir;
  ASSERT_EQ(run_in(reference.path(), tiny_run()), RunOutcome::finished);
  copy_with_bad_id(dir / "data", "validation");
  TrainConfig cfg = tiny_run();
  cfg.data.validation = (dir / "data").string();
  cfg.eval.batches = 0;
  ASSERT_EQ(run_in(dir / "run", cfg), RunOutcome::finished);
  EXPECT_EQ(final_weights(dir / "run"), final_weights(reference.path()));
  EXPECT_TRUE(metric(dir / "run", "validation_loss").empty());
}

TEST(Trainer, BadTrainingDataEndsTheRunButLosesNothing) {
  TempDir dir;
  copy_with_bad_id(dir / "data", "train");
  TrainConfig cfg = tiny_run();
  cfg.train.steps = 1000;
  cfg.data.train = (dir / "data").string();
  cfg.checkpoint.every = 0;
  EXPECT_THAT(user_error_of([&] { run_in(dir / "run", cfg); }), testing::HasSubstr("outside the vocabulary"));
  const i64 steps = static_cast<i64>(metric(dir / "run", "loss").size());
  EXPECT_GT(steps, 0);
  EXPECT_EQ(open_newest_checkpoint(dir / "run").step(), steps);
}

TEST(Trainer, AMissingLastEvaluationIsMadeUpFor) {
  TempDir dir;
  ASSERT_EQ(run_in(dir.path(), tiny_run()), RunOutcome::finished);
  const std::string whole = read_file(dir / "metrics.jsonl");
  write_text(dir / "metrics.jsonl", whole.substr(0, whole.rfind('\n', whole.size() - 2) + 1));
  ASSERT_EQ(run_in(dir.path(), tiny_run()), RunOutcome::finished);
  EXPECT_EQ(read_file(dir / "metrics.jsonl"), whole);
  ASSERT_EQ(run_in(dir.path(), tiny_run()), RunOutcome::finished);
  EXPECT_EQ(read_file(dir / "metrics.jsonl"), whole);
}

}  // namespace
}  // namespace xlstm
