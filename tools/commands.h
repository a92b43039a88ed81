#pragma once
// The subcommands of the program, one file each. A command does its work in its CLI11 callback; results go to stdout,
// logs and progress to stderr.
#include <CLI/CLI.hpp>

#include "core/json.h"

namespace xlstm {

void add_doctor_command(CLI::App& app);
void add_tokenizer_command(CLI::App& app);
void add_data_command(CLI::App& app);
void add_plan_command(CLI::App& app);
void add_train_command(CLI::App& app);
void add_eval_command(CLI::App& app);
void add_generate_command(CLI::App& app);
void add_checkpoint_command(CLI::App& app);
void add_bench_command(CLI::App& app);

// What main() returns; thrown by a command that ends in another way than 0 (done).
struct ExitCode {
  int code;
};

// The result of a command: one JSON object with --json, `text` otherwise.
void print_result(bool as_json, const Json& json, const std::string& text);

}  // namespace xlstm
