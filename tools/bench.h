#pragma once
// Parts of `xlstm bench`: each measures one thing and gives a table and one JSON object.
#include "tools/commands.h"

namespace xlstm {

struct BenchResult {
  Json json;
  std::string text;
};

// Prints the result, and with `save` writes it, environment included, as a file (bench/results/).
void publish(const BenchResult& result, bool as_json, const std::string& save);

void add_bench_step(CLI::App& bench);
void add_bench_gemm(CLI::App& bench);
void add_bench_ops(CLI::App& bench);
void add_bench_loader(CLI::App& bench);
void add_bench_checkpoint(CLI::App& bench);

// The options that every benchmark has.
struct BenchOutput {
  bool json = false;
  std::string save;
  i64 threads = 0;
  void add_to(CLI::App& cmd);
};

}  // namespace xlstm
