// scripts/supervise.sh with commands that are shell scripts; with mpirun it is rank_faults_test.cpp's.
#include <chrono>
#include <csignal>
#include <thread>

#include "tests/cli/support.h"

namespace xlstm {
namespace {

using testing::HasSubstr;
using testing::Not;

class Supervision : public CliTest {
 protected:
  // `options`, then ./command with `arguments` (behind the program's own path, which every launcher gets).
  std::unique_ptr<Program> start(const Arguments& options, const Arguments& arguments = {},
                                 const std::string& environment = "") const {
    Arguments launcher{XLSTM_SOURCE_DIR "/scripts/supervise.sh"};
    launcher.insert(launcher.end(), options.begin(), options.end());
    return std::make_unique<Program>(path(""), arguments, environment, "", launcher);
  }
  void script(const std::string& name, const std::string& text) const {
    write(name, "#!/bin/sh\n" + text);
    fs::permissions(path(name), fs::perms::owner_all);
  }
  void wait_for(const std::string& name) const {
    for (int i = 0; i < 5000 && !fs::exists(path(name)); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(2));
    ASSERT_TRUE(fs::exists(path(name))) << name;
  }
};

TEST_F(Supervision, GivesUp) {
  script("command", "exit 9");
  const Ended ended = start({"--pause", "0", "--limit=3", "./command"})->wait();
  EXPECT_EQ(ended.code, 9);
  EXPECT_THAT(ended.err, HasSubstr("3 failures in a row"));
}

// However many checkpoints lie between: a bit flips once, a machine that does it again is broken.
TEST_F(Supervision, ASecondDifferenceOfWeightsIsTheLast) {
  script("command", R"(
echo >> starts; n=$(wc -l < starts)
mkdir -p "runs/a/checkpoints/step_$n"; touch "runs/a/checkpoints/step_$n/manifest.json"
[ "$n" -eq 2 ] && exit 9
exit 4
)");
  const Ended ended = start({"--pause", "0", "./command"})->wait();
  EXPECT_EQ(ended.code, 4);
  EXPECT_THAT(ended.err, HasSubstr("weights have differed between ranks twice"));
  EXPECT_EQ(read_file(path("starts")).size(), 3u);
}

TEST_F(Supervision, SeesTheProgressOfARunNamedEitherWay) {
  script("command", R"(
echo >> starts; n=$(wc -l < starts)
mkdir -p "$RUN/checkpoints/step_$n"; touch "$RUN/checkpoints/step_$n/manifest.json"
[ "$n" -lt 5 ] && exit 9 || exit 0
)");
  for (const Arguments& words : {Arguments{"--run=a/b"}, Arguments{"--run", "a/b"}}) {
    EXPECT_EQ(start({"--pause", "0", "--limit", "2", "./command"}, words, "RUN=a/b")->wait().code, 0);
    fs::remove(path("starts"));
  }
  EXPECT_EQ(start({"--pause", "0", "--limit", "2", "./command"}, {"--run=c"}, "RUN=d")->wait().code, 9);
}

// Before the first start, and after the end of a command that has failed.
TEST_F(Supervision, AStopWhileItLooksForProgressIsNotLost) {
  script("find", "echo >> looked; sleep 0.3");
  script("command", "touch started; sleep 0.1; exit 9");
  const std::string path_with_find = fmt::format("PATH={}:/usr/bin:/bin", path("").string());
  const auto first = start({"./command"}, {}, path_with_find);
  wait_for("looked");
  first->send(SIGTERM);
  EXPECT_EQ(first->wait().code, 75);
  EXPECT_FALSE(fs::exists(path("started")));

  const auto second = start({"./command"}, {}, path_with_find);
  wait_for("started");
  std::this_thread::sleep_for(std::chrono::milliseconds(250));
  second->send(SIGTERM);
  const Ended ended = second->wait();
  EXPECT_EQ(ended.code, 75) << ended.err;
}

TEST_F(Supervision, ACommandThatDoesNotListenYetIsWaitedFor) {
  script("command", R"(touch started; sleep 0.5; trap 'exit 75' TERM; while :; do sleep 0.05; done)");
  const auto program = start({"./command"});
  wait_for("started");
  program->send(SIGTERM);
  EXPECT_EQ(program->wait().code, 75);
}

TEST_F(Supervision, WhatCannotBeStartedIsNotTriedAgain) {
  write("text", "no program");
  for (const auto& [command, code] : {std::pair{"./nothere", 127}, std::pair{"./text", 126}}) {
    const Ended ended = start({"--pause", "1000", command})->wait();
    EXPECT_EQ(ended.code, code);
    EXPECT_THAT(ended.err, HasSubstr(fmt::format("supervise: '{}' cannot be started", command)));
  }
}

TEST_F(Supervision, ItsOptions) {
  for (const auto& [options, says] : std::vector<std::pair<Arguments, const char*>>{
           {{"--limit", "x", "./command"}, "--limit 'x': a whole number is expected after it"},
           {{"--limit", "0", "./command"}, "--limit 0: at least 1"},
           {{"--pause=1h", "./command"}, "--pause '1h'"},
           {{"--bogus", "./command"}, "unknown option --bogus"}}) {
    const Ended ended = start(options)->wait();
    EXPECT_EQ(ended.code, 2);
    EXPECT_THAT(ended.err, HasSubstr(says));
    EXPECT_EQ(std::count(ended.err.begin(), ended.err.end(), '\n'), 1) << ended.err;
  }
  const Ended help = start({"--help"})->wait();
  EXPECT_EQ(help.code, 0);
  EXPECT_THAT(help.out, HasSubstr("Usage: scripts/supervise.sh [--limit N]"));
  EXPECT_THAT(help.out, Not(HasSubstr("pipefail")));
}

}  // namespace
}  // namespace xlstm
