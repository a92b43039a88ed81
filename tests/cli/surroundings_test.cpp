// What surrounds the program: streams that are closed, readers that go, limits, signals, and files that are cut off
// while it runs.
#include <sys/stat.h>
#include <sys/wait.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <thread>

#include "tests/cli/support.h"

namespace xlstm {
namespace {

using testing::HasSubstr;

class Surroundings : public CliTest {
 protected:
  Surroundings() { make_data(); }

  // The exit code of a line of shell, in which $xlstm is the program.
  int shell(const std::string& line) const {
    const int status =
        std::system(fmt::format("cd '{}' && xlstm='{}' && {}", path("").string(), XLSTM_PROGRAM, line).c_str());
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }

  template <class Done>
  static void wait_for(Program& program, Done&& done) {
    while (program.running() && !done()) std::this_thread::sleep_for(std::chrono::milliseconds(3));
  }

  static Arguments endless(Arguments arguments) {
    arguments.insert(arguments.end(), {"--set", "train.steps=1000000", "--set", "checkpoint.every=0"});
    return arguments;
  }
};

TEST_F(Surroundings, ClosedStreamsAreNotTakenForFiles) {
  const std::string closed = " <&- >&- 2>&-";
  EXPECT_EQ(shell("$xlstm data build text.jsonl --tokenizer tok.model --out again --validation-fraction 0.1" + closed),
            2);  // the result could not be written
  for (const std::string& file : files_below(path("data"))) {
    if (file == "build.json") continue;
    EXPECT_EQ(read_file(path("again") / file), read_file(path("data") / file)) << file;
  }
  EXPECT_EQ(shell("$xlstm train --config tiny.yaml --run run --set log.every=1" + closed), 0);
  EXPECT_EQ(metric(path("run"), "loss").size(), 12u);
  EXPECT_THAT(read_file(path("run/metrics.jsonl")), testing::Not(HasSubstr("tok/s")));
  EXPECT_THAT(read_file(path("run/lock")), testing::Not(HasSubstr("step")));
  must_run({"checkpoint", "verify", "run"});
}

TEST_F(Surroundings, WhoeverReadsTheLogMayGo) {
  shell(
      "{ $xlstm train --config tiny.yaml --run run --set log.every=1 --set train.steps=300; echo $? > code; } 2>&1 |"
      " head -c 1 > /dev/null");
  EXPECT_EQ(read_file(path("code")), "0\n");
  EXPECT_EQ(metric(path("run"), "loss").size(), 300u);
}

TEST_F(Surroundings, AFileBeyondTheLimitIsAnErrorLikeAFullDisk) {
  EXPECT_EQ(shell("ulimit -f 4 && $xlstm data build text.jsonl --tokenizer tok.model --out small 2> err"), 2);
  EXPECT_THAT(read_file(path("err")),
              testing::AllOf(HasSubstr("error: "), HasSubstr("File too large"), HasSubstr("ulimit -f")));
}

TEST_F(Surroundings, MoreShardsThanFilesMayUsuallyBeOpen) {
  must_run({"data", "build", "text.jsonl", "--tokenizer", "tok.model", "--out", "many", "--shard-tokens", "300"});
  EXPECT_GT(files_below(path("many")).size(), 60u);
  EXPECT_EQ(shell("ulimit -Sn 20 && $xlstm data info many > info"), 0);
}

TEST_F(Surroundings, MoreShardsThanFilesMayEverBeOpenAreRefusedWithTheRemedy) {
  must_run({"data", "build", "text.jsonl", "--tokenizer", "tok.model", "--out", "many", "--shard-tokens", "300"});
  const std::size_t shards = read_json(path("many/train/manifest.json")).at("shards").size();
  EXPECT_EQ(shell(fmt::format("ulimit -n {} && $xlstm data info many > info 2> said", shards + 8)), 2);
  const std::string said = read_file(path("said"));
  EXPECT_EQ(std::count(said.begin(), said.end(), '\n'), 1) << said;
  EXPECT_THAT(said, testing::AllOf(HasSubstr("error: "), HasSubstr(fmt::format("only {} files open", shards + 8)),
                                   HasSubstr("ulimit -Hn"), HasSubstr("--shard-tokens")));
}

// Two data sets, each of which fits alone.
TEST_F(Surroundings, AFileThatIsOneTooManyIsNamed) {
  must_run({"data", "build", "text.jsonl", "--tokenizer", "tok.model", "--out", "many", "--shard-tokens", "300"});
  const std::size_t shards = read_json(path("many/train/manifest.json")).at("shards").size();
  const Ended whole = run(train("r", {"--set", "data.train=many", "--set", "data.validation=many/train"}));
  EXPECT_EQ(whole.code, 0) << whole.err;
  EXPECT_EQ(shell(fmt::format("ulimit -n {} && $xlstm train --config tiny.yaml --run s --set data.train=many "
                              "--set data.validation=many/train 2> said",
                              2 * shards + 18)),
            2);
  EXPECT_THAT(read_file(path("said")),
              testing::AllOf(HasSubstr("error: "), HasSubstr("many/train: "), HasSubstr("ulimit -Hn")));
  EXPECT_FALSE(fs::exists(path("s/checkpoints")));
}

TEST_F(Surroundings, AnInterruptedBuildSaysHowToGoOn) {
  ASSERT_EQ(mkfifo(path("pipe.jsonl").c_str(), 0600), 0);
  for (const int signal : {SIGINT, SIGTERM}) {
    Program program(path(""), {"data", "build", "pipe.jsonl", "--tokenizer", "tok.model", "--out", "out"});
    wait_for(program, [&] { return fs::exists(path("out.partial/lock")); });
    program.send(signal);
    const Ended ended = program.wait();
    EXPECT_EQ(ended.code, 128 + signal);
    EXPECT_EQ(ended.err, "interrupted: run the same command again to go on\n");
    fs::remove_all(path("out.partial"));
  }
}

TEST_F(Surroundings, TrainingDataThatIsCutOffEndsTheRunWithACheckpoint) {
  Program program(path(""), endless(train("run")));
  wait_for(program, [&] { return fs::exists(path("run/metrics.jsonl")) && metric(path("run"), "loss").size() > 20; });
  fs::resize_file(path("data/train/shard_00000.tokens"), 100);
  const Ended ended = program.wait();
  EXPECT_EQ(ended.code, 2) << ended.err;
  ASSERT_EQ(ended.errors().size(), 1u) << ended.err;
  EXPECT_THAT(ended.errors()[0],
              testing::AllOf(HasSubstr("shard_00000.tokens: ends at byte 100"), HasSubstr("build the data set again")));
  EXPECT_GT(must_run({"checkpoint", "info", "run", "--json"}).json()["step"], 20);
}

TEST_F(Surroundings, ARunThatIsRenamedIsNotPartedInTwo) {
  Program program(path(""), {"train", "--config", "tiny.yaml", "--run", "run", "--set", "train.steps=1000000", "--set",
                             "checkpoint.every=20"});
  const auto steps = [&](const char* run) {
    return fs::exists(path(run) / "metrics.jsonl") ? metric(path(run), "loss").size() : 0;
  };
  wait_for(program, [&] { return steps("run") > 20; });
  fs::rename(path("run"), path("moved"));
  const std::size_t then = steps("moved");
  wait_for(program, [&] { return steps("moved") > then + 50; });
  EXPECT_FALSE(fs::exists(path("run")));
  fs::rename(path("moved"), path("run"));
  program.send(SIGTERM);
  const Ended ended = program.wait();
  EXPECT_EQ(ended.code, 75) << ended.err;
  EXPECT_THAT(ended.err, HasSubstr("run/checkpoints: is there no more"));
  must_run({"checkpoint", "verify", "run"});
}

TEST_F(Surroundings, ValidationDataThatIsCutOffIsReportedAndTrainingGoesOn) {
  Program program(path(""), endless(train("run", {"--set", "eval.every=5"})));
  wait_for(program, [&] { return fs::exists(path("run/metrics.jsonl")) && metric(path("run"), "loss").size() > 20; });
  fs::resize_file(path("data/validation/shard_00000.tokens"), 0);
  const std::size_t then = metric(path("run"), "loss").size();
  wait_for(program, [&] { return metric(path("run"), "loss").size() > then + 20; });
  program.send(SIGHUP);
  const Ended ended = program.wait();
  EXPECT_EQ(ended.code, 75) << ended.err;
  EXPECT_THAT(ended.err, HasSubstr("no validation loss: data/validation/shard_00000.tokens: ends at byte 0"));
  EXPECT_THAT(ended.err, HasSubstr("SIGHUP: saved at step"));
}

}  // namespace
}  // namespace xlstm
