#include "train/run_metrics.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <sstream>

#include "core/json.h"

namespace xlstm {

namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

double number(const Json& line, const char* key) {
  const auto it = line.find(key);
  return it != line.end() && it->is_number() ? it->get<double>() : kNan;
}

std::optional<i64> whole(const Json& line, const char* key) {
  const auto it = line.find(key);
  return it != line.end() && it->is_number_integer() ? std::optional(it->get<i64>()) : std::nullopt;
}

bool has_number_or_null(const Json& line, const char* key) {
  const auto it = line.find(key);
  return it != line.end() && (it->is_number() || it->is_null());
}

std::map<std::string, double> class_seconds(const Json& line) {
  std::map<std::string, double> seconds;
  if (const auto it = line.find("class_seconds"); it != line.end() && it->is_object())
    for (const auto& [name, value] : it->items())
      if (value.is_number()) seconds[name] = value.get<double>();
  return seconds;
}

StepMetrics step_of(const Json& line, i64 step, i64 tokens) {
  return {.step = step,
          .tokens = tokens,
          .loss = number(line, "loss"),
          .grad_norm = number(line, "grad_norm"),
          .lr = number(line, "lr"),
          .tokens_per_second = number(line, "tokens_per_second"),
          .mfu = number(line, "mfu"),
          .seconds = number(line, "seconds"),
          .data_wait = number(line, "data_wait"),
          .input_gate_max = number(line, "input_gate_max"),
          .input_gate_min = number(line, "input_gate_min"),
          .forget_gate_max = number(line, "forget_gate_max"),
          .forget_gate_min = number(line, "forget_gate_min"),
          .class_seconds = class_seconds(line),
          .applied = line.value("applied", Json(true)) != Json(false)};
}

constexpr std::string_view kLossOf = "_loss";

void add_sets(RunMetrics& m, const Json& line, i64 step, i64 tokens) {
  for (const auto& [key, unused] : line.items())
    if (key.ends_with(kLossOf) && key != "validation_loss")
      m.sets[key.substr(0, key.size() - kLossOf.size())].push_back(
          {.step = step, .tokens = tokens, .loss = number(line, key.c_str())});
}

// Whether the line was one of a step or of an evaluation, in its order.
bool add_line(RunMetrics& m, const Json& line, double& seconds) {
  if (!line.is_object()) return false;
  const auto step = whole(line, "step");
  if (!step) return false;
  if (is_evaluation(line)) {
    const i64 tokens = m.steps.empty() ? 0 : m.steps.back().tokens;
    add_sets(m, line, *step, tokens);
    if (!has_number_or_null(line, "validation_loss")) return true;
    m.evaluations.push_back({.step = *step,
                             .tokens = tokens,
                             .seconds = seconds,
                             .loss = number(line, "validation_loss"),
                             .scored = whole(line, "validation_tokens").value_or(0)});
    return true;
  }
  if (const auto from = whole(line, "rolled_back_from")) {
    m.rollbacks.push_back({.from = *from, .to = *step});
    return true;
  }
  const auto tokens = whole(line, "tokens");
  if (!tokens || !has_number_or_null(line, "loss") || (!m.steps.empty() && *step <= m.steps.back().step)) return false;
  m.steps.push_back(step_of(line, *step, *tokens));
  if (std::isfinite(m.steps.back().seconds)) seconds += m.steps.back().seconds;
  return true;
}

}  // namespace

bool is_evaluation(const Json& line) {
  if (!line.is_object() || line.contains("loss")) return false;
  for (const auto& [key, unused] : line.items())
    if (key.ends_with(kLossOf) && has_number_or_null(line, key.c_str())) return true;
  return false;
}

RunMetrics RunMetrics::read(const fs::path& file) {
  RunMetrics m;
  double seconds = 0;
  std::istringstream lines(read_file(file));
  for (std::string line; std::getline(lines, line);)
    if (!line.empty() && !add_line(m, Json::parse(line, nullptr, /*allow_exceptions=*/false), seconds))
      ++m.damaged_lines;
  return m;
}

double RunMetrics::seconds() const {
  return std::accumulate(steps.begin(), steps.end(), 0.0, [](double sum, const StepMetrics& s) {
    return std::isfinite(s.seconds) ? sum + s.seconds : sum;
  });
}

i64 RunMetrics::skipped() const {
  return std::count_if(steps.begin(), steps.end(), [](const StepMetrics& s) { return !s.applied; });
}

double RunMetrics::tokens_per_second() const {
  std::vector<double> rates;
  for (const StepMetrics& s : steps)
    if (std::isfinite(s.tokens_per_second)) rates.push_back(s.tokens_per_second);
  if (rates.empty()) return kNan;
  const auto middle = rates.begin() + static_cast<std::ptrdiff_t>(rates.size() / 2);
  std::nth_element(rates.begin(), middle, rates.end());
  return *middle;
}

double RunMetrics::largest_gate() const {
  double largest = kNan;
  for (const StepMetrics& s : steps) largest = std::fmax(largest, s.input_gate_max);
  return largest;
}

double RunMetrics::training_loss(i64 step) const {
  const i64 first = step - std::max<i64>(1, step / 20);
  double sum = 0;
  i64 count = 0;
  for (const StepMetrics& s : steps)
    if (first < s.step && s.step <= step && std::isfinite(s.loss)) {
      sum += s.loss;
      ++count;
    }
  return count > 0 ? sum / static_cast<double>(count) : kNan;
}

std::optional<double> RunMetrics::validation_at_step(i64 step) const {
  for (const EvaluationMetrics& e : evaluations)
    if (e.step == step) return e.loss;
  return std::nullopt;
}

std::optional<double> RunMetrics::validation_at_seconds(double at) const {
  for (std::size_t i = 0; i < evaluations.size(); ++i) {
    const EvaluationMetrics& next = evaluations[i];
    if (next.seconds < at) continue;
    if (next.seconds == at) return next.loss;
    if (i == 0) return std::nullopt;
    const EvaluationMetrics& before = evaluations[i - 1];
    const double share = (at - before.seconds) / (next.seconds - before.seconds);
    return before.loss + share * (next.loss - before.loss);
  }
  return std::nullopt;
}

}  // namespace xlstm
