#include "train/report.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "core/config.h"
#include "core/log.h"
#include "core/text.h"
#include "train/html.h"
#include "train/report_curves.h"
#include "train/run_directory.h"

namespace xlstm {

namespace {

std::string cell(const std::string& text) { return html_text(text); }

std::string number(double value, int digits) {
  return std::isfinite(value) ? fmt::format("{:.{}f}", value, digits) : "–";
}

std::string signed_number(double value, int digits) {
  return std::isfinite(value) ? fmt::format("{:+.{}f}", value, digits) : "–";
}

std::string deviation(const std::optional<Spread>& s, int digits) {
  return s->deviation ? "<small>± " + number(*s->deviation, digits) + "</small>" : "";
}

std::string spread(const std::optional<Spread>& s, int digits) {
  if (!s) return "–";
  return number(s->mean, digits) + deviation(s, digits);
}

std::string signed_spread(const std::optional<Spread>& s, int digits) {
  return s ? signed_number(s->mean, digits) + deviation(s, digits) : "";
}

double last_validation(const RunMetrics& m) { return m.evaluations.empty() ? NAN : m.evaluations.back().loss; }

std::string setting(const ReportedRun& run, const std::string& key) {
  const auto it = run.settings.find(key);
  return it == run.settings.end() ? "" : it->second;
}

std::string dot(std::size_t number) {
  return fmt::format("<span class=\"dot\" style=\"background:var(--series-{})\"></span>", number % kSeriesColors);
}

// The last step at which all runs were evaluated that have been at all, or 0.
i64 common_evaluation(const std::vector<ReportedRun>& runs) {
  std::optional<std::set<i64>> common;
  for (const ReportedRun& run : runs) {
    if (run.metrics.evaluations.empty()) continue;
    std::set<i64> steps;
    for (const EvaluationMetrics& e : run.metrics.evaluations)
      if (!common || common->contains(e.step)) steps.insert(e.step);
    common = std::move(steps);
  }
  return common && !common->empty() ? *common->rbegin() : 0;
}

std::string heading(const std::vector<ReportedRun>& runs, const Comparison* arms) {
  std::string text = "<h1>";
  if (arms)
    text += fmt::format("Comparison of {}", counted(static_cast<i64>(arms->arms.size()), "arm"));
  else
    for (std::size_t r = 0; r < runs.size() && r < 3; ++r) text += (r == 0 ? "" : ", ") + cell(runs[r].name);
  if (!arms && runs.size() > 3) text += fmt::format(" and {} more", runs.size() - 3);
  text += "</h1>\n";
  if (arms)
    text += fmt::format("<p class=\"soft\">{} each, of {} steps with {} sequences of {} tokens</p>\n",
                        counted(arms->arms[0].seeds, "run"), setting(runs[0], "train.steps"),
                        setting(runs[0], "train.batch_size"), setting(runs[0], "train.context_length"));
  if (runs.size() > 1) return text;
  const ReportedRun& run = runs[0];
  const StepMetrics last = run.metrics.steps.empty() ? StepMetrics{} : run.metrics.steps.back();
  const std::string steps = setting(run, "train.steps");
  const double left =
      (std::atof(steps.c_str()) - static_cast<double>(last.step)) *
      (run.metrics.steps.empty() ? 0 : run.metrics.seconds() / static_cast<double>(run.metrics.steps.size()));
  return text + fmt::format("<p class=\"soft\">step {} of {}, {} tokens, {} of training{}</p>\n", last.step, steps,
                            human_count(static_cast<double>(last.tokens)), human_duration(run.metrics.seconds()),
                            left > 0 ? ", " + human_duration(left) + " left" : "");
}

std::string seeds_of(const ArmResult& a) {
  std::string text = std::to_string(a.seeds);
  if (a.evaluated < a.seeds) text += fmt::format("<small>{} so far</small>", a.evaluated);
  if (a.finished + a.diverged < a.seeds) text += fmt::format("<small>{} finished</small>", a.finished);
  if (a.diverged > 0) text += fmt::format("<small class=\"bad\">{} diverged</small>", a.diverged);
  return text;
}

std::string arms_table(const Comparison& c) {
  std::vector<std::vector<std::string>> rows{{"arm", "loss", "Δ loss", "perplexity", "Δ perplexity",
                                              "loss at equal time", "perplexity at equal time", "tokens/s", "memory",
                                              "largest input gate", "skipped updates", "seeds"}};
  for (std::size_t i = 0; i < c.arms.size(); ++i) {
    const ArmResult& a = c.arms[i];
    rows.push_back({dot(i) + cell(a.name), spread(a.loss, 4), signed_spread(a.loss_difference, 4),
                    spread(a.perplexity, 2), signed_spread(a.perplexity_difference, 2), spread(a.loss_at_seconds, 4),
                    spread(a.perplexity_at_seconds, 2), spread(a.tokens_per_second, 0), human_bytes(a.peak_bytes),
                    spread(a.largest_gate, 2), std::to_string(a.skipped), seeds_of(a)});
  }
  return html_table(rows) +
         fmt::format(
             "<p class=\"soft\">Every arm sees the same tokens in the same order, seed by seed. Loss: validation, in "
             "nats "
             "per token, after {} tokens (step {}); less is better. ± is the standard deviation over the seeds. Δ is "
             "the "
             "difference to the first arm with the same seed, mean and ± over the seeds: what an arm is worth, without "
             "what the seeds have in common. Equal time: after {} of training, without evaluations and saves, between "
             "the evaluations around it. Largest input gate: of its pre-activation, before the soft cap.</p>\n",
             human_count(static_cast<double>(c.tokens)), c.step, human_duration(c.seconds));
}

std::string validation_note(const std::vector<ReportedRun>& runs, i64 step) {
  if (step == 0) return "<p class=\"soft\">The runs have no evaluation at the same step.</p>\n";
  std::set<i64> scored;
  for (const ReportedRun& run : runs)
    for (const EvaluationMetrics& e : run.metrics.evaluations)
      if (e.step == step) scored.insert(e.scored);
  std::string numbers;
  for (const i64 tokens : scored) numbers += (numbers.empty() ? "" : ", ") + std::to_string(tokens);
  const bool by_seed = std::any_of(runs.begin(), runs.end(), [](const ReportedRun& r) { return r.reference > 0; });
  std::string note = fmt::format("Validation at step {}, the last that all runs have. Δ: to the first run{}.", step,
                                 by_seed ? " with the same seed" : "");
  if (scored.size() > 1)
    note += " <span class=\"bad\">Not on the same part of the data:</span> on " + numbers + " tokens of it.";
  return "<p class=\"soft\">" + note + "</p>\n";
}

std::string runs_table(const std::vector<ReportedRun>& runs) {
  const i64 step = common_evaluation(runs);
  std::vector<std::vector<std::string>> rows{{"run", "validation loss", "Δ loss", "perplexity", "training loss",
                                              "tokens/s", "largest input gate", "skipped updates", "steps", "tokens"}};
  const auto loss = [&](const ReportedRun& run) {
    return runs.size() == 1 ? last_validation(run.metrics) : run.metrics.validation_at_step(step).value_or(NAN);
  };
  for (std::size_t r = 0; r < runs.size(); ++r) {
    const RunMetrics& m = runs[r].metrics;
    const StepMetrics last = m.steps.empty() ? StepMetrics{} : m.steps.back();
    rows.push_back({dot(runs[r].color) + cell(runs[r].name), number(loss(runs[r]), 4),
                    runs[r].reference ? signed_number(loss(runs[r]) - loss(runs[*runs[r].reference]), 4) : "",
                    number(std::exp(loss(runs[r])), 2), number(m.training_loss(last.step), 4),
                    number(m.tokens_per_second(), 0), number(m.largest_gate(), 2), std::to_string(m.skipped()),
                    std::to_string(last.step), human_count(static_cast<double>(last.tokens))});
  }
  constexpr std::ptrdiff_t kDifference = 2;
  if (runs.size() == 1)
    for (auto& row : rows) row.erase(row.begin() + kDifference);
  return html_table(rows) + (runs.size() > 1 ? validation_note(runs, step) : "");
}

struct SettingsColumn {
  std::string name;
  const ReportedRun* run;
};

// A run each; of a comparison an arm each, whose runs differ in run.seed alone.
std::vector<SettingsColumn> settings_columns(const std::vector<ReportedRun>& runs, const Comparison* arms) {
  std::vector<SettingsColumn> columns;
  std::set<std::size_t> seen;
  for (const ReportedRun& run : runs)
    if (!arms)
      columns.push_back({run.name, &run});
    else if (seen.insert(run.color).second)
      columns.push_back({arms->arms[run.color].name, &run});
  return columns;
}

// Keys whose values differ; then all of them, folded away.
std::string settings(const std::vector<ReportedRun>& runs, const Comparison* arms) {
  const std::vector<SettingsColumn> columns = settings_columns(runs, arms);
  std::set<std::string> keys;
  std::vector<std::string> head{"key"};
  for (const SettingsColumn& column : columns) {
    for (const auto& [key, value] : column.run->settings) keys.insert(key);
    head.push_back(dot(column.run->color) + cell(column.name));
  }
  if (arms) keys.erase("run.seed");
  std::vector<std::vector<std::string>> different{head}, all{head};
  for (const std::string& key : keys) {
    std::vector<std::string> row{cell(key)};
    std::set<std::string> values;
    for (const SettingsColumn& column : columns) {
      values.insert(setting(*column.run, key));
      row.push_back(setting(*column.run, key).empty() ? "–" : cell(setting(*column.run, key)));
    }
    if (values.size() > 1 && key != "run.name") different.push_back(row);
    all.push_back(row);
  }
  std::string text;
  if (columns.size() > 1)
    text += different.size() > 1 ? html_table(different) : "<p>The runs have the same settings.</p>\n";
  return text + html_folded("all settings", html_table(all));
}

// A colour is an arm's, whatever the seed.
std::string legend(const std::vector<ReportedRun>& runs, const Comparison* arms) {
  std::string items;
  const auto add = [&](std::size_t color, const std::string& name) {
    items += "<li>" + dot(color) + cell(name) + "</li>\n";
  };
  if (arms)
    for (std::size_t a = 0; a < arms->arms.size(); ++a) add(a, arms->arms[a].name);
  else
    for (const ReportedRun& run : runs) add(run.color, run.name);
  const char* note =
      "<p class=\"soft\">Where curves coincide, the first shows on both sides of what lies upon it.</p>\n";
  return "<ul class=\"legend\">" + items + "</ul>\n" + (runs.size() > 1 && can_plot() ? note : "");
}

std::string samples(const std::vector<ReportedRun>& runs) {
  std::string text;
  for (std::size_t r = 0; r < runs.size(); ++r)
    for (const std::string& sample : runs[r].samples)
      text += "<p>" + dot(runs[r].color) + cell(runs[r].name) + "</p>\n<pre>" + html_text(sample) + "</pre>\n";
  for (std::size_t r = 0; r < runs.size(); ++r)
    for (const Sample& s : runs[r].prompted)
      text += fmt::format("<p>{}{}, step {}, from the prompt in bold</p>\n<pre><b>{}</b>{}</pre>\n", dot(runs[r].color),
                          cell(runs[r].name), s.step, html_text(s.prompt), html_text(s.text));
  return text;
}

std::string environments(const std::vector<ReportedRun>& runs) {
  std::vector<std::vector<std::string>> rows{
      {"run", "program", "processor", "threads", "system", "training data", "time", "starts"}};
  for (std::size_t r = 0; r < runs.size(); ++r) {
    const Json& e = runs[r].environment;
    const auto field = [&](const char* key) {
      if (!e.is_object() || !e.contains(key)) return std::string("–");
      return cell(e[key].is_string() ? e[key].get<std::string>() : e[key].dump());
    };
    rows.push_back({dot(runs[r].color) + cell(runs[r].name), field("program"), field("processor"), field("threads"),
                    field("system"), runs[r].data.training.empty() ? "–" : runs[r].data.training.substr(0, 12),
                    field("time"), std::to_string(runs[r].starts)});
  }
  return html_table(rows);
}

std::string anomalies(const std::vector<ReportedRun>& runs) {
  std::string text;
  for (std::size_t r = 0; r < runs.size(); ++r) {
    const RunMetrics& m = runs[r].metrics;
    const auto tell = [&](const std::string& what) {
      text += "<p>" + dot(runs[r].color) + cell(runs[r].name) + ": " + what + "</p>\n";
    };
    std::string steps;
    i64 shown = 0;
    for (const StepMetrics& s : m.steps)
      if (!s.applied && ++shown <= 20) steps += (steps.empty() ? "" : ", ") + std::to_string(s.step);
    if (shown > 0)
      tell(fmt::format("<span class=\"bad\">{} skipped</span> by the guard, at step {}{}", counted(shown, "update"),
                       steps, shown > 20 ? ", …" : ""));
    for (const RollbackMetrics& back : m.rollbacks)
      tell(fmt::format("<span class=\"bad\">rolled back</span> from step {} to {}", back.from, back.to));
    if (m.damaged_lines > 0)
      tell(fmt::format("{} of metrics.jsonl could not be read and {} left out", counted(m.damaged_lines, "line"),
                       m.damaged_lines == 1 ? "is" : "are"));
    for (const std::string& name : runs[r].anomalies) tell("evidence in anomalies/" + cell(name));
  }
  return text.empty() ? "<p>None.</p>\n" : text;
}

[[noreturn]] void refuse(const ReportedRun& a, const ReportedRun& b, const std::string& key, const std::string& of_a,
                         const std::string& of_b) {
  throw user_error("{} and {} cannot be compared: {} is '{}' and '{}', so their losses are of different things", a.name,
                   b.name, key, of_a, of_b);
}

// A folder says which text it was only for runs that have not recorded it.
void check_validation(const ReportedRun& a, const ReportedRun& b) {
  const std::string key = "data.validation", path_a = setting(a, key), path_b = setting(b, key);
  const auto text_a = a.data.evaluation.find("validation"), text_b = b.data.evaluation.find("validation");
  if (text_a == a.data.evaluation.end() || text_b == b.data.evaluation.end()) {
    if (path_a != path_b) refuse(a, b, key, path_a, path_b);
  } else if (text_a->second != text_b->second) {
    refuse(a, b, key, fmt::format("{} ({:.12})", path_a, text_a->second),
           fmt::format("{} ({:.12})", path_b, text_b->second));
  }
}

void check_comparable(const std::vector<ReportedRun>& runs) {
  const std::string key = "model.vocab_size";
  for (const ReportedRun& run : runs) {
    check_validation(runs[0], run);
    if (setting(run, key) != setting(runs[0], key)) refuse(runs[0], run, key, setting(runs[0], key), setting(run, key));
  }
}

}  // namespace

ReportedRun ReportedRun::read(const fs::path& folder) {
  const fs::path config = folder / "config.yaml", metrics = folder / "metrics.jsonl";
  std::error_code ignored;
  if (!fs::exists(config, ignored) || !fs::exists(metrics, ignored))
    throw user_error("{}: no run there (no {}); name a folder that 'xlstm train' has made", folder.string(),
                     fs::exists(config, ignored) ? "metrics.jsonl" : "config.yaml");
  ReportedRun run{.name = folder.lexically_normal().string(), .metrics = RunMetrics::read(metrics)};
  for (const auto& [key, value] : ConfigTree::from_file(config.string()).values) run.settings[key] = value.text;
  if (const fs::path file = folder / "environment.json"; fs::exists(file, ignored)) try {
      const Json starts = read_json(file).at("starts");
      run.starts = static_cast<i64>(starts.size());
      if (!starts.empty()) run.environment = starts.back();
    } catch (const std::exception&) {
      run.environment = nullptr;  // damaged: the next start of the run says so
    }
  if (fs::is_directory(folder / "anomalies", ignored))
    for (const auto& entry : fs::directory_iterator(folder / "anomalies", ignored))
      if (const std::string name = entry.path().filename().string(); name.starts_with("step_"))
        run.anomalies.push_back(name);
  std::sort(run.anomalies.begin(), run.anomalies.end());
  run.data = recorded_data(folder);
  run.prompted = read_last_samples(folder / "samples.jsonl");
  return run;
}

std::string report_page(const std::vector<ReportedRun>& runs, const Comparison* arms) {
  XL_CHECK(!runs.empty(), "a report is of one run at least");
  check_comparable(runs);
  std::string body = heading(runs, arms);
  if (arms) body += html_section("Result", arms_table(*arms));
  body += html_section(arms ? "Runs" : "Result", runs_table(runs));
  body += html_section(runs.size() > 1 ? "Settings that differ" : "Settings", settings(runs, arms));
  body += html_section("Curves", legend(runs, arms) + curves_html(runs));
  body += html_section("Samples", samples(runs));
  body += html_section("Anomalies", anomalies(runs));
  body += html_section("Environment", environments(runs));
  const std::string title = arms               ? fmt::format("{} arms", arms->arms.size())
                            : runs.size() == 1 ? runs[0].name
                                               : fmt::format("{} runs", runs.size());
  return html_page(title, body);
}

void write_run_report(const fs::path& run) {
  try {
    write_file_atomically(run / "report.html", report_page({ReportedRun::read(run)}));
  } catch (const std::exception& e) {
    log_warning("no report: {}", e.what());
  }
}

}  // namespace xlstm
