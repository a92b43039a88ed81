// The program under mpirun: real processes, real signals. What ranks compute is tests/train/ranks_test.cpp's.
#include <sys/stat.h>
#include <sys/wait.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <thread>

#include "tests/cli/support.h"

namespace xlstm {
namespace {

using testing::AllOf;
using testing::HasSubstr;

// One host, however many cores it has; no network but the loopback; also as root.
Arguments mpirun(int ranks, const Arguments& more = {}) {
  Arguments words{"mpirun", "--oversubscribe", "--bind-to", "none", "--mca", "btl", "self,vader"};
  words.insert(words.end(), more.begin(), more.end());
  words.insert(words.end(), {"-np", std::to_string(ranks)});
  return words;
}

class MpiRun : public CliTest {
 protected:
  void SetUp() override {
    setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 1);
    setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 1);
    if (run({"doctor", "--json"}).out.find("\"mpi\":\"Open MPI") == std::string::npos)
      GTEST_SKIP() << "built without MPI";
    make_data();
  }

  // A run whose weights are enough for four ranks to share.
  static Arguments shared(const Arguments& more = {}) {
    Arguments all{"--set", "model.embedding_dim=128", "--set", "train.micro_batch_size=1", "--set", "eval.every=3",
                  "--set", "parallel.timeout=60"};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
  static Arguments endless(const Arguments& more = {}) {
    Arguments all = shared({"--set", "train.steps=100000", "--set", "checkpoint.every=0", "--set", "eval.every=0"});
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }

  Ended run_on(int ranks, const Arguments& arguments, const Arguments& more = {}) const {
    return Program(path(""), arguments, "", "", mpirun(ranks, more)).wait();
  }
  // Rank 0 and rank 1, each with a program and arguments of its own.
  Ended run_pair(const std::string& program, const Arguments& first, const Arguments& second) const {
    Arguments words = mpirun(1);
    words.push_back(program);
    words.insert(words.end(), first.begin(), first.end());
    words.insert(words.end(), {":", "-np", "1"});
    return Program(path(""), second, "", "", words).wait();
  }
  std::unique_ptr<Program> start_on(int ranks, const Arguments& arguments, const Arguments& more = {}) const {
    return std::make_unique<Program>(path(""), arguments, "", "", mpirun(ranks, more));
  }
  void wait_for_steps(const std::string& run, std::size_t steps) const {
    for (int i = 0; i < 10000; ++i) {
      if (fs::exists(path(run) / "metrics.jsonl") && metric(path(run), "grad_norm").size() >= steps) return;
      std::this_thread::sleep_for(std::chrono::milliseconds(3));
    }
    ADD_FAILURE() << run << " does not get on";
  }
  // The process that is the rank of that number, started by mpirun `parent`.
  static pid_t process_of(pid_t parent, int rank) {
    for (const auto& entry : fs::directory_iterator("/proc")) {
      std::ifstream stat(entry.path() / "stat");
      std::string number, name, state, above;
      if (!(stat >> number >> name >> state >> above) || above != std::to_string(parent)) continue;
      const std::string rank_there = fmt::format("OMPI_COMM_WORLD_RANK={}\n", rank);
      if (read_environment(entry.path()).find(rank_there) != std::string::npos) return std::stoi(number);
    }
    return -1;
  }
  static std::string read_environment(const fs::path& process) {
    std::ifstream in(process / "environ", std::ios::binary);
    std::string all((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
    for (char& c : all) c = c == '\0' ? '\n' : c;
    return all;
  }
};

TEST_F(MpiRun, AnyNumberOfRanksHasTheSameBitsAlsoResumed) {
  const auto eight = [](const Arguments& more = {}) {
    Arguments all = shared({"--set", "train.batch_size=8"});
    all.insert(all.end(), more.begin(), more.end());
    return all;
  };
  must_run(train("one", eight()));
  for (const int ranks : {2, 4, 8}) {
    const Ended ended = run_on(ranks, train(fmt::format("of{}", ranks), eight()));
    ASSERT_EQ(ended.code, 0) << ended.err;
  }
  ASSERT_EQ(run_on(4, train("parts", eight({"--stop-at", "3"}))).code, 75);
  ASSERT_EQ(run(train("parts", eight({"--stop-at", "7"}))).code, 75);
  ASSERT_EQ(run_on(2, train("parts", eight())).code, 0);
  for (const char* name : {"of2", "of4", "of8", "parts"}) {
    EXPECT_EQ(weights(name), weights("one")) << name;
    for (const char* key : {"loss", "grad_norm", "validation_loss"})
      EXPECT_EQ(metric(path(name), key), metric(path("one"), key)) << name << " " << key;
  }
}

TEST_F(MpiRun, EvaluationHasTheSameBits) {
  must_run(train("one", {"--set", "train.steps=2", "--set", "schedule.warmup_steps=1"}));
  const Arguments eval{"eval", "--checkpoint", "one", "--batch", "3", "--json"};
  const Ended alone = must_run(eval), shared_out = run_on(4, eval);
  EXPECT_EQ(shared_out.code, 0) << shared_out.err;
  EXPECT_EQ(shared_out.out, alone.out);
}

TEST_F(MpiRun, EvaluationOfSomethingElseIsNamed) {
  must_run(train("one", {"--set", "train.steps=2", "--set", "schedule.warmup_steps=1"}));
  must_run(train("two", {"--set", "train.steps=2", "--set", "schedule.warmup_steps=1", "--set", "run.seed=2"}));
  const Ended other = run_pair(XLSTM_PROGRAM, {"eval", "--checkpoint", "one"}, {"eval", "--checkpoint", "two"});
  EXPECT_EQ(other.code, 2);
  EXPECT_THAT(other.err, AllOf(HasSubstr("rank 1 ("), HasSubstr("--checkpoint is step 2 (weights")));
  const Ended fewer =
      run_pair(XLSTM_PROGRAM, {"eval", "--checkpoint", "one"}, {"eval", "--checkpoint", "one", "--windows", "1"});
  EXPECT_EQ(fewer.code, 2);
  EXPECT_THAT(fewer.err, HasSubstr("--windows is 1 there, 0 on rank 0"));
}

TEST_F(MpiRun, ASignalToOneRankSavesOnce) {
  const auto program = start_on(2, train("run", endless()));
  wait_for_steps("run", 20);
  kill(process_of(program->pid(), 1), SIGTERM);
  const Ended ended = program->wait();
  EXPECT_EQ(ended.code, 75) << ended.err;
  EXPECT_THAT(ended.err, HasSubstr("SIGTERM: saved at step"));
  must_run({"checkpoint", "verify", "run"});
}

// While the ranks find each other.
TEST_F(MpiRun, ASignalBeforeTheFirstStepStopsAllRanks) {
  for (const int signal : {SIGTERM, SIGUSR1}) {
    const auto program = start_on(2, train("run", endless()));
    pid_t second = -1;
    for (int i = 0; i < 5000 && (second = process_of(program->pid(), 1)) < 0; ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    wait_until_caught(second, signal);
    kill(second, signal);
    const Ended ended = program->wait();
    EXPECT_EQ(ended.code, 75) << ended.err;
    EXPECT_THAT(ended.err, HasSubstr("stopped before the run was opened"));
    EXPECT_TRUE(ended.errors().empty()) << ended.err;
  }
  EXPECT_FALSE(fs::exists(path("run")));
}

TEST_F(MpiRun, ASignalThatMpirunPassesOnSavesOnce) {
  const auto program = start_on(2, train("run", endless()));
  wait_for_steps("run", 20);
  program->send(SIGUSR1);
  const Ended ended = program->wait();
  EXPECT_EQ(ended.code, 75) << ended.err;
  EXPECT_THAT(ended.err, HasSubstr("SIGUSR1: saved at step"));
  must_run({"checkpoint", "verify", "run"});
}

// Told to end itself, mpirun waits so many seconds before it tells its ranks, and as many before it kills them, however
// soon they have ended; and says 1 whatever they say.
TEST_F(MpiRun, AnEndOfMpirunLeavesTheTimeThatItWasGiven) {
  const auto program = start_on(2, train("run", endless()), {"--mca", "odls_base_sigkill_timeout", "10"});
  wait_for_steps("run", 20);
  program->send(SIGTERM);
  const Ended ended = program->wait();
  EXPECT_EQ(ended.code, 1);
  EXPECT_THAT(ended.err, HasSubstr("SIGTERM: saved at step"));
  must_run({"checkpoint", "verify", "run"});
}

TEST_F(MpiRun, ARankThatIsStoppedIsNamedInTime) {
  for (const int victim : {1, 0}) {
    const std::string name = fmt::format("run{}", victim);
    const auto program = start_on(2, train(name, endless({"--set", "parallel.timeout=8"})));
    wait_for_steps(name, 20);
    const auto begin = std::chrono::steady_clock::now();
    kill(process_of(program->pid(), victim), SIGSTOP);
    const Ended ended = program->wait();
    EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(12));  // 8, and what mpirun takes
    EXPECT_NE(ended.code, 0);
    EXPECT_THAT(ended.err, AllOf(HasSubstr(fmt::format("for rank {} (", victim)), HasSubstr("dead, stopped or cut off"),
                                 HasSubstr("step "), HasSubstr("has waited")));
  }
}

TEST_F(MpiRun, WhatOneRankCannotDoIsSaidOnce) {
  const Ended wrong = run_on(3, train("run", shared({"--set", "optimizer.lrr=1"})));
  EXPECT_EQ(wrong.code, 2);
  EXPECT_EQ(wrong.errors().size(), 1u) << wrong.err;
  EXPECT_THAT(wrong.err, HasSubstr("did you mean 'optimizer.lr'"));

  const Ended differs =
      run_pair(XLSTM_PROGRAM, train("run", shared()), train("run", shared({"--set", "optimizer.lr=0.5"})));
  EXPECT_EQ(differs.code, 2) << differs.err;
  EXPECT_EQ(differs.errors().size(), 1u) << differs.err;
  EXPECT_THAT(differs.err, AllOf(HasSubstr("rank 1 ("), HasSubstr("optimizer.lr is 0.5 there, 0.003 on rank 0")));
  EXPECT_FALSE(fs::exists(path("run")));
}

TEST_F(MpiRun, ConfigFromStdinReachesAllRanks) {
  must_run(train("one"));
  const std::string script = "exec \"$@\" < tiny.yaml";
  Arguments words{"sh", "-c", script, "sh"};
  for (const std::string& word : mpirun(2)) words.push_back(word);
  const Ended ended = Program(path(""), {"train", "--config", "-", "--run", "run"}, "", "", words).wait();
  EXPECT_EQ(ended.code, 0) << ended.err;
  EXPECT_EQ(weights("run"), weights("one"));
}

TEST_F(MpiRun, AnotherCommandIsNamed) {
  const Ended ended = run_pair(XLSTM_PROGRAM, train("run"), {"eval", "--checkpoint", "run"});
  EXPECT_EQ(ended.code, 2) << ended.err;
  EXPECT_EQ(ended.errors().size(), 1u) << ended.err;
  EXPECT_THAT(ended.err, AllOf(HasSubstr("rank 1 ("), HasSubstr("the command is xlstm eval there, xlstm train on")));
  EXPECT_FALSE(fs::exists(path("run")));
}

TEST_F(MpiRun, BenchStepCountsWhatTheFormulasSay) {
  const Arguments bench{"bench", "step", "--config", "tiny.yaml", "--steps", "1", "--warmup", "0", "--json"};
  const Ended three = run_on(3, bench);
  EXPECT_EQ(three.code, 2);
  EXPECT_EQ(three.errors().size(), 1u) << three.err;
  EXPECT_THAT(three.err, HasSubstr("error: parallel.reduction_slots: 2 slots cannot be shared by 3 ranks"));
  for (const char* shared : {"true", "false"})
    for (const char* precision : {"f32", "bf16"}) {
      Arguments words = bench;
      for (const std::string& more :
           {fmt::format("parallel.shard_optimizer={}", shared), fmt::format("run.precision={}", precision),
            std::string("model.embedding_dim=128")})
        words.insert(words.end(), {"--set", more});
      const Json j = run_on(2, words).json();
      for (const char* reduction : {"exact", "fast"})
        EXPECT_EQ(j[reduction]["sent_bytes"], j[reduction]["expected_bytes"]) << shared << precision << reduction;
      EXPECT_EQ(j["fast"]["sent_bytes_of_gradients"], "by formula");
    }
}

TEST_F(MpiRun, AnotherBuildOfTheProgramIsNamed) {
  fs::copy_file(XLSTM_PROGRAM, path("another"));
  std::ofstream(path("another"), std::ios::app | std::ios::binary) << "built on another day";
  const Ended ended = run_pair(path("another").string(), train("run", shared()), train("run", shared()));
  EXPECT_EQ(ended.code, 2) << ended.err;
  EXPECT_EQ(ended.errors().size(), 1u) << ended.err;
  EXPECT_THAT(ended.err, AllOf(HasSubstr("rank 1 ("), HasSubstr("the program is"), HasSubstr("(build ")));
  EXPECT_FALSE(fs::exists(path("run")));
}

TEST_F(MpiRun, AWarningOfAnotherRankReachesTheLog) {
  const std::string many = fmt::format("run.threads={}", std::thread::hardware_concurrency() + 1);
  const Ended ended = run_pair(XLSTM_PROGRAM, train("run", shared()), train("run", shared({"--set", many})));
  EXPECT_EQ(ended.code, 0) << ended.err;
  EXPECT_THAT(ended.err, AllOf(HasSubstr("warning: rank 1 ("), HasSubstr("share of the cores")));
  EXPECT_LT(ended.err.find("share of the cores"), ended.err.find("done: 12 steps"));  // it did not wait for the end
}

// At work on nothing: its thread of beats lives, and it does not come.
TEST_F(MpiRun, ARankThatHangsIsNamedInTime) {
  fs::create_directory(path("hole"));
  ASSERT_EQ(mkfifo((path("hole") / "manifest.json").c_str(), 0600), 0);  // nobody will ever write into it
  const Arguments waits = shared({"--set", "parallel.timeout=8"}),
                  hangs = shared({"--set", "parallel.timeout=8", "--set", "data.train=hole"});
  const Ended ended = run_pair(XLSTM_PROGRAM, train("run", waits), train("run", hangs));
  EXPECT_NE(ended.code, 0);
  const std::string waited = "has waited ";
  const std::size_t at = ended.err.find(waited);
  ASSERT_NE(at, std::string::npos) << ended.err;
  EXPECT_LE(std::stod(ended.err.substr(at + waited.size())), 8);
  EXPECT_THAT(ended.err, AllOf(HasSubstr("in 'training data' for rank 1 ("), HasSubstr("which hangs")));
}

// Before anybody watches, an alarm does; here it rings at once.
TEST_F(MpiRun, ARankThatDoesNotStartIsNotWaitedForForEver) {
  Arguments words = mpirun(1);
  for (const char* word : {"sleep", "1000", ":", "-np", "1"}) words.emplace_back(word);
  Program program(path(""), train("run", shared()), "", "", words);
  pid_t waiting = -1;
  for (int i = 0; i < 1000 && (waiting = process_of(program.pid(), 1)) < 0; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  ASSERT_GT(waiting, 0);
  std::this_thread::sleep_for(std::chrono::seconds(2));
  ASSERT_TRUE(program.running());
  kill(waiting, SIGALRM);
  const Ended ended = program.wait();
  EXPECT_EQ(ended.code, 1) << ended.err;
  EXPECT_THAT(ended.err, HasSubstr("error: not all processes of this run have started"));
}

TEST_F(MpiRun, ARankThatIsLateIsWaitedFor) {
  const Arguments arguments = shared({"--set", "train.steps=200", "--set", "parallel.timeout=30"});
  must_run(train("one", arguments));
  const auto program = start_on(2, train("run", arguments));
  wait_for_steps("run", 5);
  const pid_t late = process_of(program->pid(), 1);
  kill(late, SIGSTOP);
  std::this_thread::sleep_for(std::chrono::seconds(3));
  ASSERT_TRUE(program->running());
  kill(late, SIGCONT);
  const Ended ended = program->wait();
  EXPECT_EQ(ended.code, 0) << ended.err;
  EXPECT_EQ(weights("run"), weights("one"));
}

// What launchers leave in the environment, with nobody there to talk to: one model must not be trained many times.
TEST_F(CliTest, ProcessesThatDoNotKnowOfEachOtherAreRefused) {
  make_data();
  for (const char* launched : {"OMPI_COMM_WORLD_SIZE=2", "PMI_SIZE=2", "SLURM_STEP_NUM_TASKS=2"}) {
    SCOPED_TRACE(launched);
    expect_refused(train("run"), {"started as one of 2 processes"}, launched);
    expect_refused({"compare", "--config", "tiny.yaml", "--vary", "optimizer.lr=1,2", "--out", "run"},
                   {"'xlstm compare' works as one process"}, launched);
    EXPECT_EQ(run({"doctor"}, launched).code, 0);  // tells of each host
    expect_refused({"compare", "--config", "none.yaml", "--vary", "optimizer.lr=1,2", "--out", "run", "--part", "1/2"},
                   {"none.yaml"}, launched);  // shares the work in its own way
  }
  const Arguments srun{"env", "SLURM_STEP_NUM_TASKS=2", "SLURM_JOBID=1", "SLURM_STEPID=0", "SLURM_PROCID=1"};
  const Ended ended = Program(path(""), train("run"), "", "", srun).wait();
  EXPECT_EQ(ended.code, 2);
  EXPECT_EQ(ended.errors().size(), 1u) << ended.err;
  EXPECT_FALSE(fs::exists(path("run")));
}

TEST_F(MpiRun, SupervisedRunsGoOnByThemselves) {
  const Arguments supervised{XLSTM_SOURCE_DIR "/scripts/supervise.sh", "--pause", "0", "env", "LC_ALL=C"};
  Arguments launcher = supervised;
  for (const std::string& word : mpirun(2)) launcher.push_back(word);
  const Arguments run = train("run", endless({"--set", "checkpoint.every=20"}));
  const auto program = std::make_unique<Program>(path(""), run, "", "", launcher);
  for (const std::size_t steps : {30, 70}) {
    wait_for_steps("run", steps);
    std::ifstream children(fmt::format("/proc/{0}/task/{0}/children", program->pid()));
    pid_t mpi = -1;
    ASSERT_TRUE(children >> mpi);
    kill(process_of(mpi, 1), SIGKILL);
    std::this_thread::sleep_for(std::chrono::milliseconds(500));
  }
  wait_for_steps("run", 100);
  program->send(SIGTERM);
  const Ended ended = program->wait();
  EXPECT_EQ(ended.code, 75) << ended.err;
  EXPECT_THAT(ended.err, HasSubstr("starting again"));
}

// Twenty kills of one rank out of one, two or four; scripts/kill_test.sh 200 1 4 does more.
TEST_F(MpiRun, RanksKilledAtRandomMoments) {
  const std::string command = fmt::format("XLSTM_PROGRAM='{}' '{}/scripts/kill_test.sh' 20 1 4 > '{}' 2>&1",
                                          XLSTM_PROGRAM, XLSTM_SOURCE_DIR, path("kill.log").string());
  const int status = std::system(command.c_str());
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << read_file(path("kill.log"));
}

}  // namespace
}  // namespace xlstm
