// The program under mpirun where something goes wrong: ranks that differ, hang, die or never come are named in time,
// and the run goes on.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstring>

#include "tests/cli/mpi_run.h"

namespace xlstm {
namespace {

using testing::AllOf;
using testing::HasSubstr;

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

TEST_F(MpiRun, AnotherCommandIsNamed) {
  const Ended ended = run_pair(XLSTM_PROGRAM, train("run"), {"eval", "--checkpoint", "run"});
  EXPECT_EQ(ended.code, 2) << ended.err;
  EXPECT_EQ(ended.errors().size(), 1u) << ended.err;
  EXPECT_THAT(ended.err, AllOf(HasSubstr("rank 1 ("), HasSubstr("the command is xlstm eval there, xlstm train on")));
  EXPECT_FALSE(fs::exists(path("run")));
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
TEST_F(MpiRun, ARankThatDoesNotStartIsNamed) {
  const auto process_when_there = [](const Program& program, int rank) {
    pid_t found = -1;
    for (int i = 0; i < 10000 && (found = process_of(program.pid(), rank)) < 0; ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    return found;
  };
  const auto expect_named = [](Program& program, pid_t waiting, const char* who) {
    ASSERT_GT(waiting, 0);
    std::this_thread::sleep_for(std::chrono::seconds(2));
    ASSERT_TRUE(program.running());
    kill(waiting, SIGALRM);
    const Ended ended = program.wait();
    EXPECT_EQ(ended.code, 1) << ended.err;
    ASSERT_EQ(ended.errors().size(), 1u) << ended.err;
    EXPECT_THAT(ended.errors()[0], AllOf(HasSubstr("error: not all processes of this run have started: rank "),
                                         HasSubstr(who), HasSubstr("; the job ends")));
  };
  Arguments words = mpirun(1);
  for (const char* word : {"sleep", "1000", ":", "-np", "1"}) words.emplace_back(word);
  Program another(path(""), train("run", shared()), "", "", words);
  expect_named(another, process_when_there(another, 1), ") runs 'sleep'");

  const auto stopped = start_on(2, train("run", shared()));
  const pid_t second = process_when_there(*stopped, 1);
  kill(second, SIGSTOP);
  expect_named(*stopped, process_when_there(*stopped, 0), ") is stopped");
}

// The first values of a tensor of a run's newest checkpoint, f32.
std::vector<float> values_of(const fs::path& run, const char* tensor, std::size_t count) {
  const std::string folder = read_file(run / "checkpoints/LATEST");
  const std::string file = read_file(run / "checkpoints" / folder.substr(0, folder.find('\n')) / "params.safetensors");
  std::uint64_t header = 0;
  std::memcpy(&header, file.data(), sizeof header);
  const Json entry = Json::parse(file.substr(sizeof header, header)).at(tensor);
  std::vector<float> values(count);
  std::memcpy(values.data(), file.data() + sizeof header + header + entry.at("data_offsets").at(0).get<std::size_t>(),
              count * sizeof(float));
  return values;
}

// Of another process.
class Memory {
 public:
  explicit Memory(pid_t process)
      : process_(process), file_(open(fmt::format("/proc/{}/mem", process).c_str(), O_RDWR)) {}
  ~Memory() { close(file_); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  // Where it has values that are nearly these, in what it does not share.
  std::vector<off_t> places_of(const std::vector<float>& values) const {
    std::vector<off_t> found;
    std::ifstream maps(fmt::format("/proc/{}/maps", process_));
    for (std::string line; std::getline(maps, line);) {
      unsigned long begin = 0, end = 0;
      char flags[8] = {};
      if (std::sscanf(line.c_str(), "%lx-%lx %7s", &begin, &end, flags) != 3 || std::string(flags) != "rw-p") continue;
      std::vector<float> words((end - begin) / sizeof(float));
      const ssize_t got = pread(file_, words.data(), end - begin, static_cast<off_t>(begin));
      words.resize(static_cast<std::size_t>(std::max<ssize_t>(got, 0)) / sizeof(float));
      for (std::size_t i = 0; i + values.size() <= words.size(); ++i)
        if (std::equal(values.begin(), values.end(), words.begin() + static_cast<std::ptrdiff_t>(i),
                       [](float a, float b) { return std::abs(a - b) < 1e-3f; }))
          found.push_back(static_cast<off_t>(begin + i * sizeof(float)));
    }
    return found;
  }
  bool set(off_t place, float value) const { return pwrite(file_, &value, sizeof value, place) == sizeof value; }

 private:
  pid_t process_;
  int file_;
};

// In the memory of rank 1, a weight that rank 0 updates; again and again, because each update brings the right one
// back. At this rate the values of the checkpoint are still recognised.
TEST_F(MpiRun, AWeightThatChangesInTheMemoryOfARankIsNamedAndNothingIsLost) {
  const Arguments run = endless({"--set", "parallel.check_interval=1", "--set", "optimizer.lr=1e-7"});
  const auto until = [&](const std::string& name, const char* step) {
    Arguments all = train(name, run);
    all.insert(all.end(), {"--stop-at", step});
    return all;
  };
  ASSERT_EQ(this->run(until("one", "30")).code, 75);
  ASSERT_EQ(run_on(2, until("run", "5")).code, 75);
  const std::string saved = weights("run");

  const auto program = start_on(2, train("run", run));
  wait_for_steps("run", 20);
  const Memory memory(process_of(program->pid(), 1));
  const auto places = memory.places_of(values_of(path("run"), "embedding.weight", 64));
  ASSERT_FALSE(places.empty());
  const auto begin = std::chrono::steady_clock::now();
  while (program->running() && std::chrono::steady_clock::now() - begin < std::chrono::seconds(20)) {
    for (const off_t place : places)
      if (!memory.set(place, 1)) break;  // it has ended
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  const Ended ended = program->wait();
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(20));  // parallel.timeout is 60
  EXPECT_EQ(ended.code, 4) << ended.err;
  ASSERT_EQ(ended.errors().size(), 1u) << ended.err;
  EXPECT_THAT(ended.errors()[0], AllOf(HasSubstr("step "), HasSubstr("'embedding.weight' differs on rank 1 ("),
                                       HasSubstr("from rank 0 ("), HasSubstr("which updates it")));
  EXPECT_EQ(weights("run"), saved);

  ASSERT_EQ(run_on(2, until("run", "30")).code, 75);
  EXPECT_EQ(weights("run"), weights("one"));
  for (const char* key : {"loss", "grad_norm"}) EXPECT_EQ(metric(path("run"), key), metric(path("one"), key)) << key;
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
