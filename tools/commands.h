#pragma once
// The subcommands of the program, one file each. A command does its work in its CLI11 callback; results go to stdout,
// logs and progress to stderr.
#include <CLI/CLI.hpp>
#include <charconv>

#include "core/json.h"
#include "core/parallel.h"

namespace xlstm {

void add_doctor_command(CLI::App& app);
void add_tokenizer_command(CLI::App& app);
void add_data_command(CLI::App& app);
void add_data_import_command(CLI::App& group);
void add_plan_command(CLI::App& app);
void add_train_command(CLI::App& app);
void add_eval_command(CLI::App& app);
void add_generate_command(CLI::App& app);
void add_checkpoint_command(CLI::App& app);
void add_checkpoint_export_command(CLI::App& group);
void add_checkpoint_import_command(CLI::App& group);
void add_compare_command(CLI::App& app);
void add_report_command(CLI::App& app);
void add_replay_command(CLI::App& app);
void add_bench_command(CLI::App& app);

// What main() returns; thrown by a command that ends in another way than 0 (done).
struct ExitCode {
  int code;
};

// A piece of a result, to standard output at once. UserError when it cannot be written.
void write_result(const std::string& text);

// The result of a command: one JSON object with --json, `text` otherwise.
void print_result(bool as_json, const Json& json, const std::string& text);

// Checks of options.
inline CLI::Validator at_least(i64 least, i64 most = std::numeric_limits<i64>::max()) {
  const auto check = [=](const std::string& text) {
    i64 value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error == std::errc() && end == text.data() + text.size() && least <= value && value <= most)
      return std::string();
    return most == std::numeric_limits<i64>::max()
               ? fmt::format("'{}' is not a whole number of at least {}", text, least)
               : fmt::format("'{}' is not a whole number from {} to {}", text, least, most);
  };
  return {check, ""};
}
inline CLI::Validator not_empty(const std::string& what) {
  const auto check = [=](const std::string& text) {
    return text.empty() ? fmt::format("is empty; name {}", what) : std::string();
  };
  return {check, ""};
}
inline CLI::Validator thread_count() { return at_least(1, kMostThreads); }

}  // namespace xlstm
