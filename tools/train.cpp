// xlstm train
#include "core/log.h"
#include "tools/commands.h"
#include "tools/ranks.h"
#include "train/agreement.h"
#include "train/report.h"
#include "train/trainer.h"

namespace xlstm {

namespace {

struct Options {
  std::string config, run;
  std::vector<std::string> set;
  std::optional<i64> stop_at;
  bool profile = false;
};

// As the user would type it again.
std::vector<std::string> command_line(const Options& o) {
  std::vector<std::string> words{"xlstm", "train", "--config", o.config};
  for (const std::string& assignment : o.set) words.insert(words.end(), {"--set", assignment});
  if (!o.run.empty()) words.insert(words.end(), {"--run", o.run});
  if (o.profile) words.emplace_back("--profile");
  if (o.stop_at) words.insert(words.end(), {"--stop-at", std::to_string(*o.stop_at)});
  return words;
}

// A signal that comes while the ranks find each other: nothing has been opened yet.
void stop_if_told(Communicator& ranks) {
  const char* mine = StopSignal::received();
  for (const std::string& signal : ranks.gather_texts("beginning", mine ? mine : "")) {
    if (signal.empty()) continue;
    if (ranks.first()) log_info("{}: stopped before the run was opened; run the same command again to go on", signal);
    throw ExitCode{75};
  }
}

// What the trainer holds of the ranks is over when it returns: an exit code is thrown, and what is thrown ends the
// connections of others by force.
RunOutcome run_trainer(const Options& o, const fs::path& run, const TrainConfig& cfg, Communicator& ranks) {
  Trainer trainer(run, cfg, command_line(o), &ranks);
  const RunOutcome outcome = trainer.run(o.stop_at);
  if (cfg.log.profile && ranks.first()) {
    write_file_atomically(run / "profile.json", to_text(trainer.profile().to_json(), 1) + "\n");
    log_info("where the time of a step goes:\n{}", trainer.profile().table());
  }
  return outcome;
}

void train(const Options& o, Communicator& ranks) {
  stop_if_told(ranks);
  TrainConfig cfg = load_config_on_all(ranks, o.config, o.set);
  cfg.log.profile = cfg.log.profile || o.profile;
  const fs::path run = o.run.empty() ? fs::path("runs") / cfg.run.name : fs::path(o.run);
  if (ranks.size() > 1)
    agree(ranks, {{"--run", run.string()}, {"--stop-at", o.stop_at ? std::to_string(*o.stop_at) : "none"}});
  const RunOutcome outcome = run_trainer(o, run, cfg, ranks);
  if (ranks.first()) write_run_report(run);
  switch (outcome) {
    case RunOutcome::finished: return;
    case RunOutcome::stopped: throw ExitCode{75};
    case RunOutcome::diverged: throw ExitCode{3};
  }
}

}  // namespace

void add_train_command(CLI::App& app) {
  auto* cmd = app.add_subcommand("train", "Train a model; running the same command again resumes");
  auto o = std::make_shared<Options>();
  cmd->add_option("--config", o->config, "YAML file (configs/); '-' for stdin")->required();
  cmd->add_option("--set", o->set, "Override a key of the config: key=value; may be repeated");
  cmd->add_option("--run", o->run, "Folder of the run [runs/<run.name>]")->check(not_empty("a folder"));
  cmd->add_flag("--profile", o->profile, "Time, operations and bytes per operator class (log.profile)");
  cmd->add_option("--stop-at", o->stop_at, "Save at this step and exit with 75")->check(at_least(1));
  cmd->footer(
      "Example:\n  xlstm train --config configs/quickstart.yaml --set model.mixer.input_gate=sigmoid --run runs/sig");
  cmd->callback([o] {
    const StopSignal from_the_first_moment;  // ranks take their time to find each other
    with_ranks("xlstm train", [&](Communicator& ranks) { train(*o, ranks); });
  });
}

}  // namespace xlstm
