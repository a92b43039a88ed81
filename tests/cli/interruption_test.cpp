// Runs that are stopped, signalled and killed end with the bits of a run that was left alone.
#include <sys/wait.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <thread>

#include "tests/cli/support.h"

namespace xlstm {
namespace {

using testing::HasSubstr;

class Interruption : public CliTest {
 protected:
  Interruption() { make_data(); }

  // Of a run of half a second; the signal comes when fifty steps are done.
  void signal_then_go_on(int signal, const char* name) const {
    const Arguments more{"--set", "train.steps=800", "--set", "checkpoint.every=500", "--set", "eval.every=0"};
    must_run(train("whole", more));
    Program program(path(""), train("signalled", more));
    while (program.running() && steps_of("signalled") < 50) std::this_thread::sleep_for(std::chrono::milliseconds(3));
    program.send(signal);
    const Ended ended = program.wait();
    EXPECT_EQ(ended.code, 75) << ended.err;
    EXPECT_THAT(ended.err, HasSubstr(fmt::format("{}: saved at step", name)));
    EXPECT_LT(steps_of("signalled"), 800);
    EXPECT_THAT(must_run(train("signalled", more)).err, HasSubstr("resumed from"));
    expect_same("whole", "signalled");
  }

  i64 steps_of(const std::string& run) const {
    if (!fs::exists(path(run) / "metrics.jsonl")) return 0;
    return static_cast<i64>(metric(path(run), "grad_norm").size());
  }

  void expect_same(const std::string& a, const std::string& b) const {
    EXPECT_EQ(weights(a), weights(b));
    for (const char* key : {"step", "loss", "grad_norm", "lr"})
      EXPECT_EQ(metric(path(a), key), metric(path(b), key)) << key;
  }
};

TEST_F(Interruption, StopAt) {
  must_run(train("whole"));
  for (const char* step : {"3", "7"}) {
    const Ended stopped = run(train("parts", {"--stop-at", step}));
    EXPECT_EQ(stopped.code, 75) << stopped.err;
    EXPECT_EQ(must_run({"checkpoint", "info", "parts", "--json"}).json()["step"], std::atoi(step));
  }
  for (const char* past : {"5", "7"})  // or a loop "until it is not 75" would never end
    expect_refused(train("parts", {"--stop-at", past}), {fmt::format("--stop-at {}", past), "at step 7 already"});
  must_run(train("parts"));
  must_run(train("parts", {"--stop-at", "5"}));  // done
  expect_same("whole", "parts");
}

TEST_F(Interruption, SigTerm) { signal_then_go_on(SIGTERM, "SIGTERM"); }
TEST_F(Interruption, SigInt) { signal_then_go_on(SIGINT, "SIGINT"); }
TEST_F(Interruption, SigHup) { signal_then_go_on(SIGHUP, "SIGHUP"); }

// From the moment at which the program listens, whatever it is at: opening, measuring, loading.
TEST_F(Interruption, BeforeTheFirstStepNothingIsLostAndNothingSaved) {
  const Arguments more{"--set", "train.steps=40", "--set", "checkpoint.every=20", "--set", "eval.every=0"};
  must_run(train("whole", more));
  for (const int signal : {SIGTERM, SIGINT, SIGUSR1, SIGHUP})
    for (const int milliseconds : {0, 5, 50, 150}) {
      Program program(path(""), train("early", more));
      wait_until_caught(program.pid(), signal);
      std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
      program.send(signal);
      const Ended ended = program.wait();
      ASSERT_EQ(ended.code, 75) << ended.err;
      if (milliseconds > 0) continue;
      EXPECT_THAT(ended.err, HasSubstr("stopped"));
      EXPECT_FALSE(fs::exists(path("early/checkpoints/step_00000000")));
    }
  must_run(train("early", more));
  expect_same("whole", "early");
}

TEST_F(Interruption, BeforeTheFirstStepOfAResumedRun) {
  ASSERT_EQ(run(train("run", {"--stop-at", "3"})).code, 75);
  const std::string was = read_file(path("run/checkpoints/step_00000003/manifest.json"));
  const auto written = fs::last_write_time(path("run/checkpoints/step_00000003/manifest.json"));
  Program program(path(""), train("run"));
  wait_until_caught(program.pid(), SIGTERM);
  program.send(SIGTERM);
  EXPECT_EQ(program.wait().code, 75);
  EXPECT_EQ(read_file(path("run/checkpoints/step_00000003/manifest.json")), was);
  EXPECT_EQ(fs::last_write_time(path("run/checkpoints/step_00000003/manifest.json")), written);
}

// A few kills; scripts/kill_test.sh alone does 200.
TEST_F(Interruption, KilledAtRandomMoments) {
  const std::string command = fmt::format("XLSTM_PROGRAM='{}' '{}/scripts/kill_test.sh' 8 > '{}' 2>&1", XLSTM_PROGRAM,
                                          XLSTM_SOURCE_DIR, path("kill.log").string());
  const int status = std::system(command.c_str());
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << read_file(path("kill.log"));
}

}  // namespace
}  // namespace xlstm
