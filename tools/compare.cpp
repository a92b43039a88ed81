// xlstm compare
#include <algorithm>
#include <memory>

#include "core/log.h"
#include "core/parallel.h"
#include "core/text.h"
#include "tools/commands.h"
#include "tools/run_samples.h"
#include "train/comparison.h"
#include "train/fit.h"
#include "train/report.h"
#include "train/trainer.h"

namespace xlstm {

namespace {

struct Options {
  std::string config, out, part = "0/1";
  std::vector<std::string> set, vary;
  i64 seeds = 1, samples = 1;
  bool json = false;
};

// One run of one arm.
struct PlannedRun {
  std::size_t arm;
  i64 seed;
  fs::path folder;
  TrainConfig cfg;
};

struct Experiment {
  std::vector<Arm> arms;
  std::vector<PlannedRun> runs;  // the first seed of every arm, then the second
  std::vector<i64> peak_bytes;   // of each arm
  fs::path out;
  i64 part = 0, parts = 1;
};

std::string folder_name(std::string text) {
  for (char& c : text)
    if (c == ' ' || c == '/') c = '_';
  return text;
}

// What is wrong with the config itself, whatever the arm: "" for nothing.
std::string fault_of_config(const Options& o) {
  try {
    load_train_config(o.config, o.set);
  } catch (const UserError& e) {
    return e.what();
  }
  return "";
}

// As load_train_config, but a value that --vary has set is not said to be --set's, and what only an arm is wrong in
// names it.
TrainConfig load_arm(const Options& o, const Arm& arm) {
  std::vector<std::string> set = o.set;
  set.insert(set.end(), arm.assignments.begin(), arm.assignments.end());
  try {
    return load_train_config(o.config, set);
  } catch (const UserError& e) {
    const std::string what = e.what();
    for (const std::string& assignment : arm.assignments)
      if (what.starts_with("--set " + assignment)) throw user_error("--vary{}", what.substr(5));
    if (what == fault_of_config(o)) throw;
    throw user_error("arm {}: {}", arm.name, what);
  }
}

void parse_part(const std::string& text, Experiment& e) {
  char slash = 0, more = 0;
  long long part = 0, parts = 0;
  if (std::sscanf(text.c_str(), "%lld%c%lld%c", &part, &slash, &parts, &more) != 3 || slash != '/' || part < 0 ||
      part >= parts)
    throw user_error("--part {}: expected I/N with 0 <= I < N, for example 0/2", text);
  e.part = part;
  e.parts = parts;
}

// The same run twice would look like two arms that agree.
void check_distinct(const std::vector<Arm>& arms, const std::vector<TrainConfig>& configs) {
  std::map<std::string, std::size_t> seen;
  for (std::size_t a = 0; a < arms.size(); ++a) {
    const auto [first, is_new] = seen.emplace(write_config(configs[a]), a);
    if (is_new) continue;
    const auto [one, other] = std::mismatch(arms[first->second].assignments.begin(),
                                            arms[first->second].assignments.end(), arms[a].assignments.begin());
    const std::size_t equals = one->find('=');
    throw user_error("--vary {}: {} and {} make the same arm; take out one of them", one->substr(0, equals),
                     one->substr(equals + 1), other->substr(equals + 1));
  }
}

// Opened again only where an arm asks for another than the one before.
struct OpenDevice {
  DeviceChoice choice;
  std::optional<Machine> machine;
};

// Whatever would end an arm when its turn comes ends the command now. Returns the bytes that the arm allocates.
i64 check_arm(const Arm& arm, const TrainConfig& cfg, OpenDevice& device) {
  try {
    if (!device.machine || device.choice != cfg.run.device) device.machine.emplace(cfg.run);
    device.choice = cfg.run.device;
    const Machine& machine = *device.machine;
    return total_bytes(plan_within(cfg, machine.device(), AvailableMemory::of(machine), machine.gpu()));
  } catch (const UserError& e) {
    throw user_error("arm {}: {}", arm.name, e.what());
  }
}

// Keys that one run may change when it is started again, but not a run that is to stand beside others.
std::string changed_evaluation(const fs::path& config, const TrainConfig& cfg) {
  constexpr const char* kKey = "eval.batches";
  const std::string was = ConfigTree::from_file(config.string()).values[kKey].text;
  const std::string is = std::to_string(cfg.eval.batches);
  return was.empty() || was == is ? "" : fmt::format("{} was {}, is {}", kKey, was, is);
}

// What a run was trained or evaluated on that is not this experiment's: "" for nothing.
std::string changed_data(const fs::path& folder, const DataIdentity& data) {
  DataIdentity was = recorded_data(folder);
  if (const std::vector<fs::path> checkpoints = list_checkpoints(folder); !checkpoints.empty())
    was.training =
        CheckpointReader(checkpoints[0]).state().value("fingerprints", Json::object()).value("data", was.training);
  if (!was.training.empty() && was.training != data.training)
    return fmt::format("trained on data {:.16}, not {:.16}", was.training, data.training);
  const std::string before = was.evaluation["validation"], now = data.evaluation.at("validation");
  return before.empty() || before == now ? "" : fmt::format("evaluated on data {:.16}, not {:.16}", before, now);
}

// A run that is there already, finished or not, has to be of this experiment.
void check_is_this_run(const PlannedRun& run, const DataIdentity& data) {
  const fs::path config = run.folder / "config.yaml";
  std::error_code ignored;
  if (!fs::exists(config, ignored)) return;
  std::string conflict = conflicting_key(read_file(config), write_config(run.cfg));
  if (conflict.empty()) conflict = changed_evaluation(config, run.cfg);
  if (conflict.empty()) conflict = changed_data(run.folder, data);
  if (!conflict.empty())
    throw user_error("{}: is of another experiment, {}; name another folder with --out, or delete this run",
                     run.folder.string(), conflict);
}

Experiment plan_experiment(const Options& o) {
  std::vector<Variation> variations;
  for (const std::string& text : o.vary) variations.push_back(parse_variation(text));
  Experiment e{.arms = make_arms(variations), .runs = {}, .peak_bytes = {}};
  parse_part(o.part, e);
  std::vector<TrainConfig> configs;
  for (const Arm& arm : e.arms) configs.push_back(load_arm(o, arm));
  check_distinct(e.arms, configs);
  if (configs[0].data.validation.empty())
    throw user_error("data.validation: is empty; arms are compared by their validation loss, so name a data set");
  e.out = o.out.empty() ? fs::path("runs") / ("compare_" + configs[0].run.name) : fs::path(o.out);

  const Mixture train = open_training_data(configs[0]);  // of all arms
  const DataIdentity data = identity_of(train, open_evaluation_sets(configs[0], train));
  set_threads(static_cast<int>(configs[0].run.threads));
  OpenDevice device{};
  for (std::size_t a = 0; a < e.arms.size(); ++a) e.peak_bytes.push_back(check_arm(e.arms[a], configs[a], device));
  device.machine.reset();  // the trainers open their own
  for (i64 s = 0; s < o.seeds; ++s)
    for (std::size_t a = 0; a < e.arms.size(); ++a) {
      PlannedRun run{.arm = a, .seed = configs[a].run.seed + s, .folder = {}, .cfg = configs[a]};
      run.folder = e.out / folder_name(e.arms[a].name) / fmt::format("seed_{}", run.seed);
      run.cfg.run.seed = run.seed;
      check_is_this_run(run, data);
      e.runs.push_back(std::move(run));
    }
  return e;
}

bool has_metrics(const PlannedRun& run) {
  std::error_code ignored;
  return fs::exists(run.folder / "metrics.jsonl", ignored);
}

// What its folder says, without opening the run.
ArmRun state_of(const PlannedRun& run) {
  ArmRun state{.seed = run.seed, .metrics = {}};
  if (!has_metrics(run)) return state;
  state.metrics = RunMetrics::read(run.folder / "metrics.jsonl");
  const i64 steps = run.cfg.train.steps;
  const std::vector<fs::path> checkpoints = list_checkpoints(run.folder);
  state.finished = !checkpoints.empty() && checkpoints[0].filename() == fmt::format("step_{:08}", steps) &&
                   state.metrics.validation_at_step(steps).has_value();
  i64 skipped = 0;
  for (auto s = state.metrics.steps.rbegin(); s != state.metrics.steps.rend() && !s->applied; ++s) ++skipped;
  state.diverged = skipped > run.cfg.guard.max_skips;
  return state;
}

std::vector<std::string> command_line(const Options& o) {
  std::vector<std::string> words{"xlstm", "compare", "--config", o.config, "--seeds", std::to_string(o.seeds)};
  for (const std::string& v : o.vary) words.insert(words.end(), {"--vary", v});
  for (const std::string& s : o.set) words.insert(words.end(), {"--set", s});
  if (!o.out.empty()) words.insert(words.end(), {"--out", o.out});
  return words;
}

// Every run that is not finished yet. False when a signal ended it.
bool train_all(const Options& o, const Experiment& e) {
  for (std::size_t r = 0; r < e.runs.size(); ++r) {
    const PlannedRun& run = e.runs[r];
    if (static_cast<i64>(r) % e.parts != e.part) continue;
    const std::string what =
        fmt::format("run {} of {}: {}, seed {}", r + 1, e.runs.size(), e.arms[run.arm].name, run.seed);
    const ArmRun state = state_of(run);
    if (state.finished || state.diverged) {
      log_info("{}: {} already", what, state.finished ? "finished" : "diverged");
      continue;
    }
    log_info("{}", what);
    Trainer trainer(run.folder, run.cfg, command_line(o));
    if (trainer.run(std::nullopt) == RunOutcome::stopped) return false;
  }
  return true;
}

struct Outcome {
  Comparison comparison;
  fs::path report;
};

// Of what write_outcome puts on the page: the first arm's run of each seed is what the others of that seed are told
// apart from.
std::map<i64, std::size_t> references(const Experiment& e) {
  std::map<i64, std::size_t> places;
  std::size_t place = 0;
  for (const PlannedRun& run : e.runs) {
    if (!has_metrics(run)) continue;
    if (run.arm == 0) places[run.seed] = place;
    ++place;
  }
  return places;
}

Outcome write_outcome(const Options& o, const Experiment& e) {
  std::vector<std::vector<ArmRun>> runs(e.arms.size());
  std::vector<ReportedRun> reported;
  const std::map<i64, std::size_t> first_arm = references(e);
  for (const PlannedRun& run : e.runs) {
    runs[run.arm].push_back(state_of(run));
    if (!has_metrics(run)) continue;
    reported.push_back(ReportedRun::read(run.folder));
    reported.back().name = fmt::format("{}, seed {}", e.arms[run.arm].name, run.seed);
    reported.back().color = run.arm;
    if (const auto it = first_arm.find(run.seed); run.arm > 0 && it != first_arm.end())
      reported.back().reference = it->second;
    if (run.seed == e.runs[0].seed) reported.back().samples = draw_samples(run.folder, o.samples, 80);
  }
  Outcome outcome{.comparison = compare_runs(e.arms, std::move(runs), e.peak_bytes), .report = e.out / "report.html"};
  write_file_atomically(e.out / "compare.json", outcome.comparison.to_json().dump(2) + "\n");
  if (!reported.empty()) write_file_atomically(outcome.report, report_page(reported, &outcome.comparison));
  return outcome;
}

void compare(const Options& o) {
  const Experiment e = plan_experiment(o);
  log_info("{} x {}: {} in {}", counted(static_cast<i64>(e.arms.size()), "arm"), counted(o.seeds, "seed"),
           counted(static_cast<i64>(e.runs.size()), "run"), e.out.string());
  make_directory(e.out);
  const bool done = train_all(o, e);
  const Outcome outcome = write_outcome(o, e);
  Json json = outcome.comparison.to_json();
  json["report"] = outcome.report.string();
  print_result(o.json, json, outcome.comparison.table() + fmt::format("report: {}\n", outcome.report.string()));
  if (!done) throw ExitCode{75};
}

}  // namespace

void add_compare_command(CLI::App& app) {
  auto* cmd = app.add_subcommand(
      "compare", "Train variants on the same data order and put them side by side; the same command again resumes");
  auto o = std::make_shared<Options>();
  cmd->add_option("--config", o->config, "YAML file (configs/)")->required();
  cmd->add_option("--vary", o->vary, "KEY=A,B: a variant for each value; repeated, for each combination")
      ->required()
      ->allow_extra_args(false);
  cmd->add_option("--seeds", o->seeds, "Runs of each variant, with run.seed, run.seed + 1, ...")
      ->check(at_least(1, 1000))
      ->capture_default_str();
  cmd->add_option("--set", o->set, "Override a key of the config for all of them: key=value; may be repeated");
  cmd->add_option("--out", o->out, "Folder of all runs and of the result [runs/compare_<run.name>]")
      ->check(not_empty("a folder"));
  cmd->add_option("--part", o->part, "I/N: train only every N-th run, from I on; N processes share the work")
      ->capture_default_str();
  cmd->add_option("--samples", o->samples, "Texts of each variant in the report")
      ->check(at_least(0, 100))
      ->capture_default_str();
  cmd->add_flag("--json", o->json, "The result as one JSON object");
  cmd->footer(
      "Example:\n  xlstm compare --config configs/quickstart.yaml --set data.train=data --set data.validation=data "
      "\\\n    --vary model.mixer.input_gate=exp,sigmoid --seeds 2");
  cmd->callback([o] { compare(*o); });
}

}  // namespace xlstm
