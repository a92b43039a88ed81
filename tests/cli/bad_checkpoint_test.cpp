// Damaged checkpoints, and resuming what is not the same run.
#include <chrono>
#include <csignal>
#include <thread>

#include "tests/cli/support.h"

namespace xlstm {
namespace {

using testing::HasSubstr;

class BadCheckpoint : public CliTest {
 protected:
  BadCheckpoint() { make_data(); }
  fs::path weights_file(const std::string& step) const {
    return path("run/checkpoints") / ("step_" + step) / "params.safetensors";
  }
};

TEST_F(BadCheckpoint, TheNewestIsSkippedAndTheRunEndsAlike) {
  must_run(train("whole"));
  EXPECT_EQ(run(train("run", {"--stop-at", "9"})).code, 75);
  flip_bit(weights_file("00000009"), 5000);
  const Ended verified = run({"checkpoint", "verify", "run", "--json"});
  EXPECT_EQ(verified.code, 2);
  EXPECT_EQ(verified.json()["good"], false);
  ASSERT_EQ(verified.errors().size(), 1u) << verified.err;
  EXPECT_THAT(verified.err, testing::AllOf(HasSubstr("step_00000009"), HasSubstr("params.safetensors")));

  const Ended evaluated = must_run({"eval", "--checkpoint", "run", "--json"});
  EXPECT_THAT(evaluated.err, HasSubstr("warning: checkpoint skipped"));
  EXPECT_EQ(evaluated.json()["step"], 8);
  flip_bit(path("run/checkpoints/step_00000009/manifest.json"), 50);
  const std::string once = must_run({"generate", "--checkpoint", "run", "--tokens", "3"}).err;
  EXPECT_EQ(once.find("warning:"), once.rfind("warning:")) << once;
  const Ended resumed = must_run(train("run"));
  EXPECT_THAT(resumed.err, HasSubstr("warning: checkpoint skipped"));
  EXPECT_THAT(resumed.err, HasSubstr("step_00000009"));
  EXPECT_THAT(resumed.err, HasSubstr("at step 8"));
  EXPECT_EQ(weights("run"), weights("whole"));
  EXPECT_EQ(metric(path("run"), "loss"), metric(path("whole"), "loss"));
}

TEST_F(BadCheckpoint, AllDamagedIsAnErrorAndNothingIsLost) {
  must_run(train("run"));
  for (const char* step : {"00000004", "00000008", "00000012"}) fs::resize_file(weights_file(step), 100);
  const std::vector<std::string> before = files_below(path("run"));
  for (const Arguments& command : {train("run"), {"eval", "--checkpoint", "run"}, {"generate", "--checkpoint", "run"}})
    expect_refused(command, {"no checkpoint in run", "step_00000012"});
  EXPECT_EQ(files_below(path("run")), before);
}

TEST_F(BadCheckpoint, NoneIsThere) {
  for (const Arguments& command : std::vector<Arguments>{{"eval", "--checkpoint", "nothere"},
                                                         {"generate", "--checkpoint", "nothere"},
                                                         {"checkpoint", "info", "nothere"},
                                                         {"checkpoint", "verify", "data"},
                                                         {"checkpoint", "diff", "data", "data"}})
    expect_refused(command, {"no checkpoint in", "expected a run directory"});
}

TEST_F(BadCheckpoint, ResumingAnotherRun) {
  must_run(train("run"));
  const std::string sha = weights("run");
  expect_refused(train("run", {"--set", "model.num_blocks=3"}),
                 {"run holds another run", "model.num_blocks was 2, is 3"});
  expect_refused(train("run", {"--set", "run.seed=9"}), {"run.seed was 1, is 9"});
  expect_refused(train("run", {"--set", "train.micro_batch_size=4"}), {"train.micro_batch_size was 2, is 4"});
  expect_refused(train("run", {"--set", "parallel.reduction_slots=1"}), {"parallel.reduction_slots was 2, is 1"});
  must_run(
      {"data", "build", "text.jsonl", "--tokenizer", "tok.model", "--out", "half", "--validation-fraction", "0.5"});
  expect_refused(train("run", {"--set", "data.train=half", "--set", "train.steps=20"}),
                 {"cannot resume", "half", "data.train"});
  write("run/tokenizer.model", "something else");
  expect_refused(train("run", {"--set", "train.steps=20"}), {"tokenizer.model"});
  EXPECT_EQ(weights("run"), sha);
}

TEST_F(BadCheckpoint, ADamagedConfigOfARunMayBeDeleted) {
  EXPECT_EQ(run(train("run", {"--stop-at", "5"})).code, 75);
  for (const char* damaged : {"", "\x01\x02{{", "run: {seed: 1}\n"}) {
    write("run/config.yaml", damaged);
    expect_refused(train("run"), {"run/config.yaml", "delete it", "--run"});
  }
  fs::remove(path("run/config.yaml"));
  EXPECT_THAT(must_run(train("run")).err, HasSubstr("resumed from"));
}

TEST_F(BadCheckpoint, ARunWithoutItsTokenizer) {
  must_run(train("run"));
  fs::copy(path("run/checkpoints/step_00000012"), path("copy"), fs::copy_options::recursive);
  write("run/tokenizer.model", "damaged");
  for (const char* checkpoint : {"run", "copy"})
    expect_refused({"generate", "--checkpoint", checkpoint}, {"tokenizer.model", "--tokenizer names"});
  must_run({"generate", "--checkpoint", "copy", "--tokenizer", "tok.model", "--tokens", "3"});
}

TEST_F(BadCheckpoint, LongerThanBefore) {
  must_run(train("run"));
  EXPECT_THAT(must_run(train("run", {"--set", "train.steps=14"})).err, HasSubstr("train.steps was 12, is 14"));
  const Ended shorter = must_run(train("run", {"--set", "train.steps=10"}));
  EXPECT_THAT(shorter.err, testing::AllOf(HasSubstr("already done: 14 steps"), testing::Not(HasSubstr("14/10"))));
  const std::string one = "run/checkpoints/step_00000012", other = "run/checkpoints/step_00000014";
  const Ended diff = must_run({"checkpoint", "diff", one, other});
  EXPECT_THAT(diff.out, testing::AllOf(HasSubstr("tokens: 1152 and 1344"), HasSubstr("config: train.steps 12 and 14")));
}

TEST_F(BadCheckpoint, AFolderInUse) {
  Program first(path(""), train("run", {"--set", "train.steps=1000000"}));
  while (first.running() && !fs::exists(path("run/metrics.jsonl")))
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  expect_refused(train("run", {"--set", "train.steps=1000000"}), {"run", "in use by process"});
  first.send(SIGTERM);
  EXPECT_EQ(first.wait().code, 75);
  must_run(train("run", {"--set", "train.steps=2"}));
}

}  // namespace
}  // namespace xlstm
