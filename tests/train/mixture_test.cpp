// Runs on several data sets by weights: the same bits however they are interrupted or shared, and what is refused.
#include "core/hash.h"
#include "data/dataset_writer.h"
#include "tests/support/thread_ranks.h"
#include "tests/train/run_rig.h"
#include "train/replay.h"
#include "train/run_data.h"

namespace xlstm {
namespace {

using testing::AllOf;
using testing::Each;
using testing::HasSubstr;
using testing::IsEmpty;

// Of the same tokenizer.
fs::path other_dataset() {
  static const TempDir dir;
  static const bool made = [] {
    std::string text;
    for (const std::string& document : sample_documents(700)) text += Json{{"text", document}}.dump() + "\n";
    write_text(dir / "text.jsonl", text);
    build_dataset({.inputs = {(dir / "text.jsonl").string()},
                   .tokenizer = sample_tokenizer_path(),
                   .out = dir / "Other-1",
                   .validation_fraction = 0});
    return true;
  }();
  EXPECT_TRUE(made);
  return dir / "Other-1";
}

// With limits so narrow that updates are skipped, and the run goes back and leaves data out.
TrainConfig mixed_run() {
  TrainConfig cfg = tiny_run();
  cfg.data.train = "";
  cfg.data.mixture = {{.path = tiny_dataset().string(), .weight = 0.3, .name = "tiny"},
                      {.path = other_dataset().string(), .weight = 0.7}};
  cfg.train.steps = 26;
  cfg.optimizer.lr = 1e-2;
  cfg.guard = {
      .sigmas = 0.1, .window = 4, .max_skips = 0, .action = GuardAction::rollback, .max_rollbacks = 100, .keep = 2};
  return cfg;
}

class MixedRun : public testing::Test {
 protected:
  static fs::path reference() {
    static const TempDir dir;
    static const bool made = [] { return run_in(dir.path(), mixed_run()) == RunOutcome::finished; }();
    EXPECT_TRUE(made);
    return dir.path();
  }
  static std::vector<Json> tokens_by_set(const fs::path& run) {
    std::vector<Json> all;
    std::istringstream lines(read_file(run / "metrics.jsonl"));
    for (std::string line; std::getline(lines, line);)
      if (const Json j = Json::parse(line); j.contains("tokens_by_set")) all.push_back(j);
    return all;
  }
  static std::string refusal(const TrainConfig& cfg, const fs::path& dir) {
    return user_error_of([&] { run_in(dir, cfg); });
  }
};

TEST_F(MixedRun, CountsTheTokensOfEachSet) {
  const std::vector<Json> lines = tokens_by_set(reference());
  ASSERT_EQ(lines.size(), 26u);
  ASSERT_GE(open_newest_checkpoint(reference()).state().at("guard").at("left_out").size(), 1u);  // which do not count
  for (const Json& line : lines) {
    const double tokens = line.at("tokens"), tiny = line.at("tokens_by_set").at("tiny");
    EXPECT_EQ(line.at("tokens_by_set").at("other-1").get<double>() + tiny, tokens);
    EXPECT_LE(std::abs(tiny - 0.3 * tokens), 24 * 8.0);  // each roll-back shifts it by a sequence at most
  }
}

TEST_F(MixedRun, InterruptedOrOnRanksItHasTheSameBits) {
  TempDir stopped, shared;
  for (const i64 stop_at : {3, 10, 17}) ASSERT_EQ(run_in(stopped.path(), mixed_run(), stop_at), RunOutcome::stopped);
  ASSERT_EQ(run_in(stopped.path(), mixed_run()), RunOutcome::finished);
  TrainConfig cfg = mixed_run();
  cfg.resolve();
  ASSERT_THAT(run_ranks(4, [&](Communicator& r) { Trainer(shared.path(), cfg, {"test"}, &r).run({}); }), Each(""));
  for (const fs::path& dir : {stopped.path(), shared.path()}) {
    EXPECT_EQ(final_weights(dir), final_weights(reference()));
    EXPECT_EQ(metric(dir, "loss"), metric(reference(), "loss"));
    EXPECT_EQ(tokens_by_set(dir).back().at("tokens_by_set"), tokens_by_set(reference()).back().at("tokens_by_set"));
  }
}

TEST_F(MixedRun, EvidenceIsReplayedToTheBit) {
  int replayed = 0;
  for (const auto& entry : fs::directory_iterator(reference() / "anomalies"))
    if (entry.path().filename().string().starts_with("step_")) {
      EXPECT_THAT(replay_anomaly(entry.path(), 0, *make_single_process_communicator()).differences, IsEmpty());
      ++replayed;
    }
  EXPECT_GE(replayed, 1);
}

TEST_F(MixedRun, OneSetAloneHasTheBitsOfDataTrain) {
  TempDir one, alone;
  TrainConfig cfg = tiny_run();
  ASSERT_EQ(run_in(alone.path(), cfg), RunOutcome::finished);
  cfg.data.mixture = {{.path = std::exchange(cfg.data.train, ""), .weight = 5}};
  ASSERT_EQ(run_in(one.path(), cfg), RunOutcome::finished);
  EXPECT_EQ(final_weights(one.path()), final_weights(alone.path()));
  EXPECT_THAT(tokens_by_set(one.path()), IsEmpty());
}

TEST_F(MixedRun, AnotherMixtureIsRefusedOnResume) {
  TempDir dir;
  ASSERT_EQ(run_in(dir.path(), mixed_run(), 2), RunOutcome::stopped);
  TrainConfig cfg = mixed_run();
  cfg.data.mixture[1].weight = 0.6;
  EXPECT_THAT(refusal(cfg, dir.path()), HasSubstr("data.mixture.1.weight was 0.7, is 0.6"));
  cfg = mixed_run();
  cfg.data.mixture.pop_back();
  EXPECT_THAT(refusal(cfg, dir.path()), HasSubstr("trained on data"));
  cfg.data.mixture = {mixed_run().data.mixture[1], mixed_run().data.mixture[0]};
  std::swap(cfg.data.mixture[0].weight, cfg.data.mixture[1].weight);
  EXPECT_THAT(refusal(cfg, dir.path()), AllOf(HasSubstr("trained on data"), HasSubstr("data.mixture is")));
  cfg = mixed_run();  // other folders and names are the same run
  const fs::path moved = dir / "moved";
  fs::copy(other_dataset(), moved, fs::copy_options::recursive);
  cfg.data.mixture[1].path = moved.string();
  cfg.data.mixture[0].name = "short";
  ASSERT_EQ(run_in(dir.path(), cfg), RunOutcome::finished);
  EXPECT_EQ(final_weights(dir.path()), final_weights(reference()));
}

TEST_F(MixedRun, BadSetsAreNamedByTheirKey) {
  TempDir dir;
  const auto with = [&](const MixtureEntry& second) {
    TrainConfig cfg = mixed_run();
    cfg.data.mixture[1] = second;
    return refusal(cfg, dir / "run");
  };
  EXPECT_THAT(with({.path = (dir / "nothing").string()}),
              AllOf(HasSubstr("data.mixture.1.path: "), HasSubstr("nothing")));
  EXPECT_THAT(with({.path = (tiny_dataset() / "train").string()}),
              HasSubstr("data.mixture.1.path: the same text as data.mixture.0.path"));
  EXPECT_THAT(with({.path = (tiny_dataset() / "validation").string()}), "");  // other data

  const std::string vocabulary = "another";  // as `data import` names one
  const TokenizerIdentity another{.model = vocabulary, .sha256 = sha256_hex(vocabulary), .vocab_size = 50, .eod_id = 0};
  DatasetWriter foreign(dir / "foreign", another, 500);
  for (int i = 0; i < 30; ++i) foreign.add(std::vector<int>{1, 2, 3, 4}, 4, 4);
  foreign.finish();
  EXPECT_THAT(with({.path = (dir / "foreign").string()}),
              AllOf(HasSubstr("data.mixture.1.path: "), HasSubstr("tokenizer"), HasSubstr("data.mixture.0.path with")));
  DatasetWriter small(dir / "small", sample_tokenizer().identity(), 500);
  small.add(std::vector<int>(20, 5), 4, 4);
  small.finish();
  EXPECT_THAT(with({.path = (dir / "small").string()}),
              AllOf(HasSubstr("data.mixture.1.path: "), HasSubstr("21 tokens are too few for a context length of 24")));
}

TEST_F(MixedRun, RanksWithOtherSetsAreNamed) {
  TempDir dir;
  TrainConfig cfg = mixed_run();
  cfg.resolve();
  const auto wrong = run_ranks(2, [&](Communicator& r) {
    TrainConfig mine = cfg;
    if (r.rank() == 1) mine.data.mixture[1].path = (tiny_dataset() / "validation").string();
    Trainer(dir.path(), mine, {"test"}, &r).run({});
  });
  EXPECT_THAT(wrong, Each(AllOf(HasSubstr("rank 1"), HasSubstr("data.mixture.1.path"))));
}

}  // namespace
}  // namespace xlstm
