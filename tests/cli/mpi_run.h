#pragma once
// The program under mpirun: real processes, real signals.
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <thread>

#include "tests/cli/support.h"

namespace xlstm {

// One host, however many cores it has; no network but the loopback; also as root.
inline Arguments mpirun(int ranks, const Arguments& more = {}) {
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

}  // namespace xlstm
