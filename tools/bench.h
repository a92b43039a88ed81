#pragma once
// Parts of `xlstm bench`: each measures one thing and gives a table and one JSON object.
#include <algorithm>

#include "tools/commands.h"
#include "train/machine.h"
#include "train/step_profile.h"

namespace xlstm {

struct BenchResult {
  Json json;
  std::string text;
};

// Prints the result, and with `save` writes it, environment included, as a file (bench/results/).
void publish(const BenchResult& result, bool as_json, const std::string& save);
void save(const BenchResult& result, const std::string& save);  // "": nowhere

// Whole updates of a config on random tokens.
struct StepTimes {
  std::vector<double> seconds;  // of each, without a profile
  StepProfile profile;          // of one more
  i64 planned_bytes = 0;
  double median() {
    std::sort(seconds.begin(), seconds.end());
    return seconds[seconds.size() / 2];
  }
};
StepTimes time_steps(const TrainConfig& cfg, const Machine& machine, i64 steps, i64 warmup);

void add_bench_step(CLI::App& bench);
void add_bench_inference(CLI::App& bench);
void add_bench_gemm(CLI::App& bench);
void add_bench_ops(CLI::App& bench);
void add_bench_device(CLI::App& bench);
void add_bench_loader(CLI::App& bench);
void add_bench_checkpoint(CLI::App& bench);
void add_bench_sweep(CLI::App& bench);
void add_bench_transfer(CLI::App& bench);

// The options that every benchmark has.
struct BenchOutput {
  bool json = false;
  std::string save;
  i64 threads = 0;
  void add_to(CLI::App& cmd);
};

}  // namespace xlstm
