// xlstm checkpoint info | verify | diff; checkpoint_exchange.cpp has export | import
#include <fmt/ranges.h>

#include <memory>

#include "core/log.h"
#include "core/text.h"
#include "tools/commands.h"
#include "train/checkpoint_diff.h"
#include "train/checkpoint_store.h"

namespace xlstm {

namespace {

constexpr const char* kPathHelp = "A run directory, its checkpoints folder, or one checkpoint";

struct Options {
  std::string path, other;
  bool json = false, exit_code = false;
};

void info(const Options& o) {
  const CheckpointReader c = open_newest_checkpoint(o.path);
  const Json fingerprints = c.state().is_object() ? c.state().value("fingerprints", Json::object()) : Json::object();
  const Json json{{"path", c.folder().string()},  {"step", c.step()},
                  {"parameters", c.parameters()}, {"weights_sha256", c.weights_sha256()},
                  {"tensors", c.params().size()}, {"optimizer_tensors", c.optimizer().size()},
                  {"bytes", c.bytes()},           {"program", c.program()},
                  {"fingerprints", fingerprints}};
  std::string text;
  const auto line = [&](std::string_view name, const std::string& value) {
    text += fmt::format("{:<16} {}\n", name, value);
  };
  line("checkpoint", c.folder().string());
  line("step", std::to_string(c.step()));
  line("parameters", fmt::format("{} ({}) in {} tensors", c.parameters(),
                                 human_count(static_cast<double>(c.parameters())), c.params().size()));
  line("optimizer", fmt::format("{} tensors", c.optimizer().size()));
  line("size", human_bytes(c.bytes()));
  line("written by", c.program());
  line("weights_sha256", c.weights_sha256());
  for (const auto& [name, value] : fingerprints.items())
    line(name, value.is_string() ? value.get<std::string>() : value.dump());
  print_result(o.json, json, text);
}

void verify(const Options& o) {
  const std::vector<fs::path> folders = list_checkpoints(o.path);
  if (folders.empty()) throw no_checkpoint(o.path);
  Json results = Json::array();
  std::string text;
  std::vector<std::string> errors;
  for (const fs::path& folder : folders) {
    Json result{{"path", folder.string()}};
    try {
      const CheckpointReader c(folder);
      c.verify();
      result.update({{"good", true}, {"step", c.step()}, {"bytes", c.bytes()}, {"weights_sha256", c.weights_sha256()}});
      text += fmt::format("good     {}  {}\n", folder.string(), human_bytes(c.bytes()));
    } catch (const DamagedCheckpoint& e) {
      result.update({{"good", false}, {"error", e.what()}});
      text += fmt::format("DAMAGED  {}\n", folder.string());
      errors.emplace_back(e.what());
    }
    results.push_back(result);
  }
  print_result(o.json, {{"good", errors.empty()}, {"checkpoints", results}}, text);
  for (std::size_t i = 1; i < errors.size(); ++i) log_error("{}", errors[i]);
  if (!errors.empty()) throw UserError(errors[0]);
}

Json json_of(const std::vector<TensorDifference>& differences) {
  Json list = Json::array();
  for (const TensorDifference& d : differences) {
    Json entry{{"name", d.name}, {"kind", d.kind}, {"a", d.in_a}, {"b", d.in_b}};
    if (d.different_values > 0)
      entry.update({{"different_values", d.different_values}, {"max_abs", d.max_abs}, {"max_rel", d.max_rel}});
    list.push_back(entry);
  }
  return list;
}

std::string text_of(const char* what, const std::vector<TensorDifference>& differences, i64 compared) {
  std::string text = fmt::format("{}: {} tensors in both, {} differ\n", what, compared, differences.size());
  for (const TensorDifference& d : differences) {
    if (d.different_values > 0)
      text += fmt::format("  {} {}: {} values differ, by {:.3g} at most ({:.3g} of the largest)\n", d.name, d.in_a,
                          d.different_values, d.max_abs, d.max_rel);
    else
      text += fmt::format("  {}: {} ({}{}{})\n", d.name, d.kind, d.in_a,
                          d.in_a.empty() || d.in_b.empty() ? "" : " and ", d.in_b);
  }
  return text;
}

void diff(const Options& o) {
  const CheckpointReader a = open_newest_checkpoint(o.path), b = open_newest_checkpoint(o.other);
  const CheckpointDifference d = compare_checkpoints(a, b);
  const Json json{{"a", a.folder().string()},
                  {"b", b.folder().string()},
                  {"identical", d.identical()},
                  {"same_weights", a.weights_sha256() == b.weights_sha256()},
                  {"same_step", d.same_step},
                  {"same_state", d.state.empty()},
                  {"state", d.state},
                  {"params", json_of(d.params)},
                  {"optimizer", json_of(d.optimizer)}};
  const std::string text = fmt::format(
      "A {}  step {}\nB {}  step {}\n{}{}state: {}\n{}\n", a.folder().string(), a.step(), b.folder().string(), b.step(),
      text_of("weights", d.params, d.params_compared), text_of("optimizer", d.optimizer, d.optimizer_compared),
      d.state.empty() ? "the same" : fmt::format("differs\n  {}", fmt::join(d.state, "\n  ")),
      d.identical() ? "identical" : "different");
  print_result(o.json, json, text);
  if (o.exit_code && !d.identical()) throw ExitCode{1};
}

}  // namespace

void add_checkpoint_command(CLI::App& app) {
  auto o = std::make_shared<Options>();
  CLI::App* group = app.add_subcommand("checkpoint", "Look inside checkpoints, check, compare, export and import them");
  group->require_subcommand(1);
  group->footer("Example:\n  xlstm checkpoint info runs/first");

  CLI::App* c = group->add_subcommand("info", "What the newest checkpoint holds");
  c->add_option("path", o->path, kPathHelp)->required()->check(not_empty("a folder"));
  c->add_flag("--json", o->json, "Print one JSON object");
  c->footer("Example:\n  xlstm checkpoint info runs/first/checkpoints/step_00001000 --json");
  c->callback([o] { info(*o); });

  c = group->add_subcommand("verify", "Read everything and compare every checksum; exit 2 when something is damaged");
  c->add_option("path", o->path, kPathHelp)->required()->check(not_empty("a folder"));
  c->add_flag("--json", o->json, "Print one JSON object");
  c->footer("Example:\n  xlstm checkpoint verify runs/first");
  c->callback([o] { verify(*o); });

  c = group->add_subcommand("diff", "Where two checkpoints differ; exit 0 whether they do or not");
  c->add_option("a", o->path, kPathHelp)->required()->check(not_empty("a folder"));
  c->add_option("b", o->other, kPathHelp)->required()->check(not_empty("a folder"));
  c->add_flag("--json", o->json, "Print one JSON object");
  c->add_flag("--exit-code", o->exit_code, "Exit 1 when they differ, as git diff does");
  c->footer("Example:\n  xlstm checkpoint diff runs/one runs/two --exit-code");
  c->callback([o] { diff(*o); });

  add_checkpoint_export_command(*group);
  add_checkpoint_import_command(*group);
}

}  // namespace xlstm
