// xlstm: pretrains xLSTM language models, from text to evaluated checkpoint.
#include <fcntl.h>
#include <fmt/ranges.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <new>

#include "core/log.h"
#include "core/text.h"
#include "dist/communicator.h"
#include "tools/commands.h"
#include "train/hardware.h"

namespace xlstm {

void write_result(const std::string& text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0) return;
  throw user_error("cannot write the result to standard output: {}", std::strerror(errno));
}

void print_result(bool as_json, const Json& json, const std::string& text) {
  write_result(as_json ? to_text(json) + "\n" : text);
}

namespace {

constexpr const char* kExitCodes =
    "Exit codes: 0 done, 1 internal error, 2 wrong input, 3 stopped by the training guard,\n"
    "4 weights that differ between ranks (a machine is not to be trusted),\n"
    "75 stopped after saving (run the same command again to go on), 130 or 143 ended by ^C or SIGTERM.\n"
    "Example:\n  xlstm train --config configs/quickstart.yaml --set data.train=data/mine";

// The command that the arguments named, as far as they got, and its full name.
std::pair<const CLI::App*, std::string> named_command(const CLI::App& app) {
  const CLI::App* at = &app;
  std::string name = app.get_name();
  while (!at->get_subcommands().empty()) {
    at = at->get_subcommands().front();
    name += " " + at->get_name();
  }
  return {at, name};
}

// The library's words for a value that is no number, and for too many or too few of them.
std::string in_our_words(const CLI::App& command, const CLI::ParseError& e) {
  const bool conversion = dynamic_cast<const CLI::ConversionError*>(&e) != nullptr;
  if (!conversion && !dynamic_cast<const CLI::ArgumentMismatch*>(&e)) return e.what();
  std::string said = e.what();
  for (const CLI::Option* o : command.get_options()) {
    const std::string name = o->get_name();
    if (said.find(name + (conversion ? " = " : ":")) == std::string::npos) continue;
    const std::vector<std::string> values = o->results();
    if (values.empty()) return fmt::format("{}: a value is expected after it", name);
    if (!conversion) return fmt::format("{}: given {} times; once is expected", name, values.size());
    const char* expected = o->get_type_name() == "FLOAT" ? "a number" : "a whole number";
    return fmt::format("{} {}: {} is expected", name, fmt::join(values, " "), expected);
  }
  return said;
}

// What is wrong with the command line: first of all the words that mean nothing.
std::string problem_with(const CLI::App& command, const CLI::ParseError& e) {
  const bool needs_command = command.get_require_subcommand_min() > 0;
  std::vector<std::string> commands, options;
  for (const CLI::App* c : command.get_subcommands([](const CLI::App*) { return true; }))
    commands.push_back(c->get_name());
  for (const CLI::Option* o : command.get_options()) options.push_back(o->get_name());

  const std::vector<std::string> unknown = command.remaining();
  if (unknown.empty())
    return needs_command ? fmt::format("expected one of {}", fmt::join(commands, ", ")) : in_our_words(command, e);
  const std::string word = unknown[0].substr(0, unknown[0].find('='));
  if (word.starts_with("-")) return fmt::format("unknown option {}{}", word, did_you_mean(word, options));
  if (needs_command) return fmt::format("unknown command '{}'{}", word, did_you_mean(word, commands));
  return e.what();
}

int failed(int code, const std::string& message) {
  log_error("{}", one_line(message));
  return code;
}

// A file that is opened later must not get the number of a standard stream that the caller has closed: the console's
// text would go into it. Opened the wrong way round, so that to use the stream still fails.
void occupy_standard_streams() {
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
    if (fcntl(fd, F_GETFD) == -1) open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);
}

// A data set keeps a file open for each of its shards, and the usual limit is a soft one.
void raise_limit_of_open_files() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

// Some share their work among processes, some tell of the host that they are on. N times any other would be N times
// the same, into the same files.
void check_processes(const CLI::App& app) {
  const auto [command, name] = named_command(app);
  for (const char* many : {"xlstm train", "xlstm eval", "xlstm bench", "xlstm doctor", "xlstm replay"})
    if (name.starts_with(many)) return;
  if (const CLI::Option* part = command->get_option_no_throw("--part"); part && part->count() > 0) return;
  expect_one_process(name);
}

// The version, and what this build has of what may be left out.
std::string version_text() {
  const std::string mpi = mpi_version(), nccl = nccl_version();
  return fmt::format("{} ({}, {}, {})", program_version(), has_gpu_back_end() ? "CUDA" : "no CUDA",
                     mpi.empty() ? "no MPI" : mpi, nccl.empty() ? "no NCCL" : "NCCL " + nccl);
}

int run(int argc, char** argv) {
  CLI::App app("Pretrains xLSTM language models: text, tokens, training, evaluation, samples.", "xlstm");
  app.set_version_flag("--version", version_text());
  app.require_subcommand(1);
  app.footer(kExitCodes);
  add_doctor_command(app);
  add_tokenizer_command(app);
  add_data_command(app);
  add_plan_command(app);
  add_train_command(app);
  add_eval_command(app);
  add_generate_command(app);
  add_checkpoint_command(app);
  add_compare_command(app);
  add_report_command(app);
  add_replay_command(app);
  add_bench_command(app);
  app.parse_complete_callback([&app] { check_processes(app); });
  try {
    app.parse(argc, argv);
    return 0;
  } catch (const CLI::Success& e) {
    return app.exit(e);  // --help, --version
  } catch (const CLI::ParseError& e) {
    const auto [command, name] = named_command(app);
    return failed(2, fmt::format("{} (see '{} --help')", problem_with(*command, e), name));
  } catch (const ExitCode& e) {
    return e.code;
  } catch (const UserError& e) {
    return failed(2, e.what());
  } catch (const fs::filesystem_error& e) {
    return failed(2, fmt::format("{}: {}", e.path1().string(), e.code().message()));
  } catch (const std::bad_alloc&) {
    return failed(1, "out of memory; 'xlstm plan' shows where it would go");
  } catch (const std::exception& e) {
    return failed(1, fmt::format("internal error: {}", e.what()));
  }
}

}  // namespace
}  // namespace xlstm

int main(int argc, char** argv) {
  xlstm::occupy_standard_streams();
  xlstm::raise_limit_of_open_files();
  std::signal(SIGXFSZ, SIG_IGN);  // a file beyond 'ulimit -f' is an error like a full disk
  return xlstm::run(argc, argv);
}
