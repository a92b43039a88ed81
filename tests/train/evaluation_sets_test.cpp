// Evaluation while a run trains: several sets, samples, and the best checkpoint; none of it changes a bit.
#include "tests/support/thread_ranks.h"
#include "tests/train/checkpoint_cases.h"
#include "tests/train/run_rig.h"
#include "train/run_metrics.h"

namespace xlstm {
namespace {

using testing::Each;
using testing::HasSubstr;

TrainConfig watched_run() {
  TrainConfig cfg = tiny_run();
  cfg.eval = {.every = 4,
              .batches = 2,
              .sets = {{"code", (tiny_dataset() / "train").string()}, {"again", tiny_dataset().string()}},
              .prompts = {"the state", ""},
              .sample_tokens = 5};
  return cfg;
}

std::vector<Json> samples_of(const fs::path& run) {
  std::vector<Json> all;
  std::istringstream lines(read_file(run / "samples.jsonl"));
  for (std::string line; std::getline(lines, line);) all.push_back(Json::parse(line));
  return all;
}

std::string best_of(const fs::path& run) { return read_file(run / "checkpoints/BEST"); }

class WatchedRun : public testing::Test {
 protected:
  static fs::path reference() {
    static const TempDir dir;
    static const bool made = [] { return run_in(dir.path(), watched_run()) == RunOutcome::finished; }();
    EXPECT_TRUE(made);
    return dir.path();
  }
};

TEST_F(WatchedRun, HasTheWeightsOfOneThatIsNotWatched) {
  TempDir dir;
  TrainConfig cfg = tiny_run();
  cfg.data.validation.clear();
  ASSERT_EQ(run_in(dir.path(), cfg), RunOutcome::finished);
  EXPECT_EQ(final_weights(dir.path()), final_weights(reference()));
  EXPECT_EQ(metric(dir.path(), "loss"), metric(reference(), "loss"));
}

TEST_F(WatchedRun, EverySetHasItsOwnFields) {
  EXPECT_EQ(metric(reference(), "validation_loss").size(), 3u);
  EXPECT_EQ(metric(reference(), "again_loss"), metric(reference(), "validation_loss"));
  EXPECT_EQ(metric(reference(), "code_loss").size(), 3u);
  EXPECT_NE(metric(reference(), "code_loss"), metric(reference(), "validation_loss"));
  EXPECT_EQ(metric(reference(), "code_tokens"), (std::vector<double>{96, 96, 96}));
  const RunMetrics m = RunMetrics::read(reference() / "metrics.jsonl");
  EXPECT_EQ(m.damaged_lines, 0);
  EXPECT_EQ(m.evaluations.size(), 3u);
  EXPECT_EQ(m.sets.at("code").back().step, 12);
  EXPECT_THAT(read_file(reference() / "events" / fs::directory_iterator(reference() / "events")->path().filename()),
              HasSubstr("loss/code"));
}

TEST_F(WatchedRun, ASetAloneIsEnough) {
  TempDir dir;
  TrainConfig cfg = watched_run();
  cfg.data.validation.clear();
  cfg.eval.sets.erase("again");
  ASSERT_EQ(run_in(dir.path(), cfg), RunOutcome::finished);
  EXPECT_EQ(metric(dir.path(), "code_loss"), metric(reference(), "code_loss"));
  EXPECT_TRUE(metric(dir.path(), "validation_loss").empty());
  EXPECT_EQ(RunMetrics::read(dir / "metrics.jsonl").damaged_lines, 0);
}

TEST_F(WatchedRun, InterruptedItHasTheSameSamplesAndNoneTwice) {
  const std::vector<Json> expected = samples_of(reference());
  ASSERT_EQ(expected.size(), 6u);
  EXPECT_EQ(expected[0].at("prompt"), "the state");
  EXPECT_EQ(expected[5].at("step"), 12);
  EXPECT_NE(expected[1].at("text"), expected[5].at("text"));
  TempDir dir;
  for (const i64 stop_at : {3, 4, 5, 9}) ASSERT_EQ(run_in(dir.path(), watched_run(), stop_at), RunOutcome::stopped);
  // as a kill leaves it: samples of an evaluation whose line is missing, and half a line
  write_text(dir / "samples.jsonl", read_file(dir / "samples.jsonl") +
                                        R"({"step":12,"prompt":"the state","text":"x"})" + "\n" + R"({"step":12,"pro)");
  ASSERT_EQ(run_in(dir.path(), watched_run()), RunOutcome::finished);
  EXPECT_EQ(samples_of(dir.path()), expected);
  EXPECT_EQ(metric(dir.path(), "code_loss"), metric(reference(), "code_loss"));
  EXPECT_EQ(best_of(dir.path()), best_of(reference()));
}

TEST_F(WatchedRun, RanksDrawTheSame) {
  TempDir dir;
  TrainConfig cfg = watched_run();
  cfg.resolve();
  ASSERT_THAT(run_ranks(2, [&](Communicator& r) { Trainer(dir.path(), cfg, {"test"}, &r).run({}); }), Each(""));
  EXPECT_EQ(samples_of(dir.path()), samples_of(reference()));
  EXPECT_EQ(metric(dir.path(), "code_loss"), metric(reference(), "code_loss"));
}

// What was learnt is destroyed after step 8, and with weights of 0 nothing is learnt again: the best checkpoint is an
// early one, and stays.
TEST(BestCheckpoint, IsNeverRotatedAway) {
  TempDir dir;
  TrainConfig cfg = tiny_run();
  cfg.train.steps = 20;
  cfg.optimizer = {.lr = 3e-3, .clip = 0};
  cfg.eval = {.every = 2, .batches = 2};
  cfg.checkpoint = {.every = 2, .keep = 1};
  cfg.schedule = {.type = ScheduleType::constant, .warmup_steps = 2};
  ASSERT_EQ(run_in(dir.path(), cfg, 8), RunOutcome::stopped);
  EXPECT_EQ(best_of(dir.path()), "step_00000008\n");
  {
    cfg.resolve();
    Trainer trainer(dir.path(), cfg, {"test"});
    for (const ParamInfo& p : trainer.state().params.all())
      std::memset(p.param.value.data, 0, static_cast<std::size_t>(p.param.value.bytes()));
    ASSERT_EQ(trainer.run({}), RunOutcome::finished);
  }
  const std::vector<double> loss = metric(dir.path(), "validation_loss");
  ASSERT_LT(loss.at(3), *std::min_element(loss.begin() + 4, loss.end()));
  EXPECT_EQ(best_of(dir.path()), "step_00000008\n");
  EXPECT_EQ(list_checkpoints(dir.path()).size(), 2u);
  EXPECT_EQ(open_newest_checkpoint(dir / "checkpoints/BEST").step(), 8);
  EXPECT_EQ(open_newest_checkpoint(dir / "checkpoints/LATEST").step(), 20);
}

TEST(EvaluationSets, WhatCannotBeIsRefused) {
  const auto refused = [](const std::function<void(TrainConfig&)>& change) {
    TempDir dir;
    TrainConfig cfg = watched_run();
    change(cfg);
    return user_error_of([&] { run_in(dir.path(), cfg); });
  };
  EXPECT_THAT(refused([](TrainConfig& c) { c.eval.sets["Code"] = "x"; }), HasSubstr("eval.sets: 'Code'"));
  EXPECT_THAT(refused([](TrainConfig& c) { c.eval.sets["validation"] = "x"; }), HasSubstr("data.validation"));
  EXPECT_THAT(refused([](TrainConfig& c) { c.eval.sets["code"] = ""; }), HasSubstr("eval.sets.code"));
  EXPECT_THAT(refused([](TrainConfig& c) { c.eval.sets["code"] = "/nowhere"; }), HasSubstr("eval.sets.code: "));
  EXPECT_THAT(refused([](TrainConfig& c) { c.eval.temperature = -1; }), HasSubstr("eval.temperature"));
  EXPECT_THAT(refused([](TrainConfig& c) {
                c.data.validation.clear();
                c.eval.sets.clear();
              }),
              HasSubstr("eval.prompts"));
}

}  // namespace
}  // namespace xlstm
