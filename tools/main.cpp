// xlstm: pretrains xLSTM language models, from text to evaluated checkpoint.
#include <cstdio>
#include <new>

#include "core/log.h"
#include "tools/commands.h"
#include "train/hardware.h"

namespace xlstm {

void print_result(bool as_json, const Json& json, const std::string& text) {
  const std::string out = as_json ? json.dump() + "\n" : text;
  std::fwrite(out.data(), 1, out.size(), stdout);
  std::fflush(stdout);
}

namespace {

constexpr const char* kExitCodes =
    "Exit codes: 0 done, 1 internal error, 2 wrong input, 3 stopped by the training guard,\n"
    "75 stopped after saving (run the same command again to go on).";

int run(int argc, char** argv) {
  CLI::App app("Pretrains xLSTM language models: text, tokens, training, evaluation, samples.", "xlstm");
  app.set_version_flag("--version", program_version());
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
  add_bench_command(app);
  try {
    app.parse(argc, argv);
    return 0;
  } catch (const CLI::Success& e) {
    return app.exit(e);  // --help, --version
  } catch (const CLI::ParseError& e) {
    log_error("{} (see 'xlstm --help')", e.what());
    return 2;
  } catch (const ExitCode& e) {
    return e.code;
  } catch (const UserError& e) {
    log_error("{}", e.what());
    return 2;
  } catch (const std::bad_alloc&) {
    log_error("out of memory; 'xlstm plan' shows where it would go");
    return 1;
  } catch (const std::exception& e) {
    log_error("internal error: {}", e.what());
    return 1;
  }
}

}  // namespace
}  // namespace xlstm

int main(int argc, char** argv) { return xlstm::run(argc, argv); }
