// xlstm replay
#include "train/replay.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "core/text.h"
#include "tools/commands.h"
#include "tools/ranks.h"

namespace xlstm {

namespace {

struct Options {
  std::string anomaly;
  i64 threads = 0;
  bool json = false;
};

const char* name_of(SkipReason reason) { return names_of(reason)[static_cast<std::size_t>(reason)]; }

Json json_of(const Anomaly& a) {
  Json layers = Json::object();
  for (const NamedNorm& n : layer_norms(a.norms)) layers[n.name] = any_number(n.norm);
  return {{"loss", any_number(a.loss)},
          {"grad_norm", any_number(a.grad_norm)},
          {"layer_grad_norms", layers},
          {"computed_on", a.computed_on},
          {"ranks", a.ranks}};
}

std::string row(const std::string& what, double recorded, double now) {
  const bool equal = recorded == now || (std::isnan(recorded) && std::isnan(now));
  return fmt::format("{:<16}{:>26}{:>26}  {}\n", what, fmt::format("{}", recorded), fmt::format("{}", now),
                     equal ? "equal" : "NOT equal");
}

std::string verdict(const Replay& r) {
  if (r.differences.empty()) return "equal to the bit\n";
  constexpr std::size_t kShown = 6;
  const std::size_t shown = std::min(kShown, r.differences.size());
  std::string text =
      fmt::format("NOT equal: {}",
                  fmt::join(r.differences.begin(), r.differences.begin() + static_cast<std::ptrdiff_t>(shown), ", "));
  if (shown < r.differences.size()) text += fmt::format(" and {} more", r.differences.size() - shown);
  if (r.recorded.computed_on != r.now.computed_on)
    text += fmt::format("; computed on '{}' then, on '{}' now, and bits are promised for one kind of machine",
                        r.recorded.computed_on, r.now.computed_on);
  return text + "\n";
}

std::string text_of(const Replay& r) {
  const Anomaly& then = r.recorded;
  std::string text = fmt::format("step {}, update {}: skipped for its {}; sequences {} to {}, weights of {}\n",
                                 then.step, then.update, name_of(then.reason), then.batch.first_sequence,
                                 then.batch.first_sequence + then.batch.sequences - 1, then.weights);
  text += fmt::format("{:<16}{:>26}{:>26}\n", "", "recorded", "replayed");
  text += row("loss", then.loss, r.now.loss) + row("gradient norm", then.grad_norm, r.now.grad_norm);
  if (std::isfinite(then.norm_limit)) text += fmt::format("{:<16}{:>26}\n", "  its limit", then.norm_limit);
  const std::vector<NamedNorm> before = layer_norms(then.norms), now = layer_norms(r.now.norms);
  for (std::size_t i = 0; i < std::min(before.size(), now.size()); ++i)
    text += row("  " + now[i].name, before[i].norm, now[i].norm);
  if (!r.first_not_finite.empty()) text += "first not finite: " + r.first_not_finite + "\n";
  return text + verdict(r);
}

void replay(const Options& o, Communicator& ranks) {
  const Replay r = replay_anomaly(o.anomaly, o.threads, ranks);
  if (ranks.first()) {
    const Json json{{"step", r.recorded.step},
                    {"reason", name_of(r.recorded.reason)},
                    {"equal", r.differences.empty()},
                    {"differences", r.differences},
                    {"first_not_finite", r.first_not_finite.empty() ? Json(nullptr) : Json(r.first_not_finite)},
                    {"recorded", json_of(r.recorded)},
                    {"replayed", json_of(r.now)}};
    print_result(o.json, json, text_of(r));
  }
  if (!r.differences.empty()) throw ExitCode{1};
}

}  // namespace

void add_replay_command(CLI::App& app) {
  auto* cmd = app.add_subcommand("replay", "Compute an update again that the guard has skipped, from its evidence");
  auto o = std::make_shared<Options>();
  cmd->add_option("anomaly", o->anomaly, "Folder of evidence: RUN/anomalies/step_...")
      ->required()
      ->check(not_empty("a folder"));
  cmd->add_option("--threads", o->threads, "[every usable core]")->check(thread_count());
  cmd->add_flag("--json", o->json, "One JSON object");
  cmd->footer(
      "Exit code 1: the replayed step has other bits than the recorded one.\n"
      "Example:\n  xlstm replay runs/exp/anomalies/step_00000120");
  cmd->callback([o] { with_ranks("xlstm replay", [&](Communicator& ranks) { replay(*o, ranks); }); });
}

}  // namespace xlstm
