// The guard: what it lets pass, what it does about the rest, and that nothing of it depends on interruptions or ranks.
#include "train/guard.h"

#include "tests/support/thread_ranks.h"
#include "tests/train/checkpoint_cases.h"
#include "tests/train/run_rig.h"

namespace xlstm {
namespace {

using testing::Each;
using testing::HasSubstr;

TEST(Guard, TheLimitIsOfTheLogarithmsOfTheWindow) {
  const GuardConfig cfg{.sigmas = 3, .window = 4};
  EXPECT_EQ(norm_limit(cfg, {1, 2, 4}), HUGE_VAL);  // not full
  // logarithms 0, 1, 2, 3 times ln 2: mean 1.5, deviation (5 / 3)^1/2
  EXPECT_NEAR(norm_limit(cfg, {1, 2, 4, 8}), std::exp2(1.5 + 3 * std::sqrt(5.0 / 3)), 1e-12 * 50);
  EXPECT_EQ(norm_limit(cfg, {1e9, 1, 2, 4, 8}), norm_limit(cfg, {1, 2, 4, 8}));
  EXPECT_NEAR(norm_limit(cfg, {2, 2, 2, 2}), 2 * std::exp(3 * 0.05), 1e-12);  // the least deviation
  EXPECT_EQ(norm_limit({.sigmas = 0, .window = 2}, {1, 1}), HUGE_VAL);
}

TEST(Guard, OnlyAcceptedUpdatesEnterTheWindow) {
  const GuardConfig cfg{.window = 3};
  GuardState s;
  for (const double norm : {1.0, 2.0, 0.0, 3.0, 4.0}) count_update(s, cfg, true, norm);
  EXPECT_EQ(s.norms, (std::vector<double>{2, 3, 4}));
  count_update(s, cfg, false, 100);
  count_update(s, cfg, false, NAN);
  EXPECT_EQ(s.norms, (std::vector<double>{2, 3, 4}));
  EXPECT_EQ(s.skipped_in_row, 2);
  count_checkpoint(s, 8);
  EXPECT_EQ(s.good_step, 0);  // within a row of skips there is no good one
  count_update(s, cfg, true, 5);
  count_checkpoint(s, 9);
  EXPECT_EQ(s.good_step, 9);
}

TEST(Guard, ItsStateComesBackFromACheckpoint) {
  const GuardState s{.skipped_in_row = 2,
                     .rollbacks_in_row = 1,
                     .good_step = 40,
                     .norms = {0.1, 1.0 / 3},
                     .left_out = {{320, 400}, {480, 488}}};
  Json state;
  s.write(state);
  const GuardState back = GuardState::read(Json::parse(state.dump()), "state.json", 50);
  EXPECT_EQ(back.norms, s.norms);
  EXPECT_EQ(back.left_out.at(1).end, 488);
  EXPECT_EQ(back.good_step, 40);
  EXPECT_EQ(back.skipped_in_row, 2);
  EXPECT_EQ(GuardState::read({{"skipped_in_row", 0}}, "state.json", 50).good_step, 50);  // of an older program
  state["guard"]["norms"] = "many";
  EXPECT_THAT(user_error_of([&] { GuardState::read(state, "state.json", 50); }), HasSubstr("'norms'"));
}

constexpr i64 kSteps = 34;

// Limits so narrow that usual norms are beyond them: rows of skips and roll-backs without anything being made up.
TrainConfig nervous_run() {
  TrainConfig cfg = tiny_run();
  cfg.train.steps = kSteps;
  cfg.optimizer.lr = 1e-2;
  cfg.guard = {
      .sigmas = 0.5, .window = 4, .max_skips = 2, .action = GuardAction::rollback, .max_rollbacks = 100, .keep = 2};
  cfg.eval.every = 0;
  return cfg;
}

Json last_state(const fs::path& run) { return open_newest_checkpoint(run).state(); }

i64 count_lines_with(const fs::path& file, const std::string& what) {
  std::istringstream lines(read_file(file));
  i64 count = 0;
  for (std::string line; std::getline(lines, line);) count += line.find(what) != std::string::npos;
  return count;
}

class NervousRun : public testing::Test {
 protected:
  static fs::path reference() {
    static const TempDir dir;
    static const bool made = [] { return run_in(dir.path(), nervous_run()) == RunOutcome::finished; }();
    EXPECT_TRUE(made);
    return dir.path();
  }
  static void expect_as_reference(const fs::path& dir) {
    EXPECT_EQ(final_weights(dir), final_weights(reference()));
    EXPECT_EQ(last_state(dir), last_state(reference()));
    for (const char* key : {"loss", "grad_norm", "grad_norm_limit"})
      EXPECT_THAT(metric(dir, key), testing::Pointwise(testing::NanSensitiveDoubleEq(), metric(reference(), key)));
    EXPECT_EQ(count_lines_with(dir / "metrics.jsonl", "rolled_back_from"),
              count_lines_with(reference() / "metrics.jsonl", "rolled_back_from"));
  }
};

TEST_F(NervousRun, RollsBackPastTheData) {
  const Json guard = last_state(reference()).at("guard");
  const auto left_out = guard.at("left_out").get<std::vector<std::array<i64, 2>>>();
  ASSERT_GE(left_out.size(), 2u);
  i64 sequences = 0;
  for (std::size_t i = 0; i < left_out.size(); ++i) {
    EXPECT_LT(left_out[i][0], left_out[i][1]);
    if (i > 0) {
      EXPECT_LE(left_out[i - 1][1], left_out[i][0]);
    }
    sequences += left_out[i][1] - left_out[i][0];
  }
  EXPECT_EQ(last_state(reference()).at("next_sequence"), kSteps * 8 + sequences);
  EXPECT_EQ(metric(reference(), "loss").size(), std::size_t{kSteps});
  EXPECT_EQ(count_lines_with(reference() / "metrics.jsonl", "rolled_back_from"), static_cast<i64>(left_out.size()));
  EXPECT_TRUE(fs::exists(reference() / "metrics.jsonl.rolled-back-1"));
  const i64 skipped = count_lines_with(reference() / "metrics.jsonl", "\"skipped\":\"norm\"");
  EXPECT_EQ(last_state(reference()).at("updates"), kSteps - skipped);
}

TEST_F(NervousRun, InterruptedAnywhereHasTheSameBits) {
  for (const i64 every : {1, 4}) {
    TempDir dir;
    RunOutcome outcome = RunOutcome::stopped;
    for (i64 stop_at = every; stop_at <= kSteps && outcome == RunOutcome::stopped; stop_at += every)
      outcome = run_in(dir.path(), nervous_run(), stop_at < kSteps ? std::optional(stop_at) : std::nullopt);
    if (outcome == RunOutcome::stopped) run_in(dir.path(), nervous_run());
    expect_as_reference(dir.path());
  }
}

// As after a kill: whatever was done since a checkpoint is done again, roll-backs too.
TEST_F(NervousRun, KilledAfterARollbackItDoesItAgain) {
  for (const i64 kept : {8, 21}) {
    TempDir dir;
    ASSERT_EQ(run_in(dir.path(), nervous_run(), kept), RunOutcome::stopped);
    fs::copy(dir.path(), dir.path().string() + "-copy", fs::copy_options::recursive);
    ASSERT_EQ(run_in(dir.path(), nervous_run(), kSteps - 1), RunOutcome::stopped);
    const fs::path copy = dir.path().string() + "-copy";
    for (const char* name : {"metrics.jsonl", "anomalies"}) {  // these are newer than the checkpoint
      fs::remove_all(copy / name);
      fs::copy(dir / name, copy / name, fs::copy_options::recursive);
    }
    ASSERT_EQ(run_in(copy, nervous_run()), RunOutcome::finished);
    expect_as_reference(copy);
    fs::remove_all(copy);
  }
}

TEST_F(NervousRun, WhatASaveFromAnInterruptionRotatesAwayIsNotWhatItGoesBackTo) {
  TempDir dir;
  TrainConfig cfg = nervous_run();
  cfg.checkpoint.keep = 1;
  for (i64 stop_at = 1; stop_at < kSteps; stop_at += 2)
    ASSERT_EQ(run_in(dir.path(), cfg, stop_at), RunOutcome::stopped);
  ASSERT_EQ(run_in(dir.path(), cfg), RunOutcome::finished);
  EXPECT_EQ(final_weights(dir.path()), final_weights(reference()));
}

TEST(Guard, ADivergedRunEndsAfterItsRollbacks) {
  TempDir dir;
  TrainConfig cfg = tiny_run();
  cfg.optimizer.lr = 1e30;  // weights overflow with the first updates
  cfg.checkpoint.every = 2;
  cfg.guard = {.max_skips = 3, .action = GuardAction::rollback, .max_rollbacks = 2};
  ASSERT_EQ(run_in(dir.path(), cfg), RunOutcome::diverged);
  EXPECT_EQ(count_lines_with(dir / "metrics.jsonl", "rolled_back_from"), 2);
  EXPECT_EQ(count_lines_with(dir / "metrics.jsonl", "\"skipped\":\"loss\""), 4);
  EXPECT_TRUE(fs::exists(dir / "metrics.jsonl.rolled-back-2"));
}

TEST(Guard, RollbackNeedsCheckpoints) {
  TrainConfig cfg = nervous_run();
  cfg.checkpoint.every = 0;
  EXPECT_THAT(user_error_of([&] { cfg.resolve(); }), HasSubstr("guard.action"));
  cfg = nervous_run();
  cfg.guard.sigmas = NAN;
  EXPECT_THAT(user_error_of([&] { cfg.resolve(); }), HasSubstr("guard.sigmas"));
  cfg = nervous_run();
  cfg.guard.window = 1;
  EXPECT_THAT(user_error_of([&] { cfg.resolve(); }), HasSubstr("guard.window"));
}

TEST_F(NervousRun, AnyNumberOfRanksDoesTheSame) {
  TempDir dir;
  TrainConfig cfg = nervous_run();
  cfg.resolve();
  ASSERT_THAT(run_ranks(2, [&](Communicator& r) { Trainer(dir.path(), cfg, {"test"}, &r).run(17); }), Each(""));
  ASSERT_THAT(run_ranks(4, [&](Communicator& r) { Trainer(dir.path(), cfg, {"test"}, &r).run({}); }), Each(""));
  expect_as_reference(dir.path());
}

}  // namespace
}  // namespace xlstm
