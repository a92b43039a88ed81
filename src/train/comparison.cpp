#include "train/comparison.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "core/text.h"

namespace xlstm {

namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

// Keys that decide which tokens a run sees or is evaluated on, how many and in which order; or where it lies.
bool decides_data(const std::string& key) {
  for (const char* prefix : {"data.", "eval.", "run.seed", "run.name", "train.context_length", "train.steps",
                             "train.batch_size", "train.micro_batch_size", "model.vocab_size"})
    if (key.starts_with(prefix)) return true;
  return false;
}

std::string last_part(const std::string& key) { return key.substr(key.rfind('.') + 1); }

// The last step that every run has evaluated.
i64 common_step(const std::vector<std::vector<ArmRun>>& runs) {
  std::optional<std::set<i64>> common;
  for (const auto& arm : runs)
    for (const ArmRun& run : arm) {
      std::set<i64> steps;
      for (const EvaluationMetrics& e : run.metrics.evaluations)
        if (!common || common->contains(e.step)) steps.insert(e.step);
      common = std::move(steps);
    }
  return common && !common->empty() ? *common->rbegin() : 0;
}

double common_seconds(const std::vector<std::vector<ArmRun>>& runs) {
  double least = std::numeric_limits<double>::infinity();
  for (const auto& arm : runs)
    for (const ArmRun& run : arm) least = std::min(least, run.metrics.seconds());
  return std::isfinite(least) ? least : 0;
}

template <class F>
std::optional<Spread> over_seeds(const std::vector<ArmRun>& runs, F&& value) {
  std::vector<double> values;
  values.reserve(runs.size());
  for (const ArmRun& run : runs) values.push_back(value(run.metrics));
  return spread_of(values);
}

// To the first arm's run of the same seed, which has seen the same tokens: what the seeds have in common cancels.
template <class F>
std::optional<Spread> over_pairs(const std::vector<ArmRun>& runs, const std::vector<ArmRun>& first, F&& value) {
  std::vector<double> values;
  for (const ArmRun& run : runs)
    for (const ArmRun& of_first : first)
      if (of_first.seed == run.seed) values.push_back(value(run.metrics) - value(of_first.metrics));
  return spread_of(values);
}

ArmResult counts_of(const Arm& arm, const std::vector<ArmRun>& runs) {
  ArmResult r{.name = arm.name, .seeds = static_cast<i64>(runs.size())};
  for (const ArmRun& run : runs) {
    r.evaluated += !run.metrics.evaluations.empty();
    r.finished += run.finished;
    r.diverged += run.diverged;
    r.skipped += run.metrics.skipped();
  }
  return r;
}

// `first`: the first arm's runs; of itself, nothing.
void add_results(ArmResult& r, const std::vector<ArmRun>& runs, const std::vector<ArmRun>* first, const Comparison& c) {
  const auto at_step = [&](const RunMetrics& m) { return m.validation_at_step(c.step).value_or(kNan); };
  const auto at_seconds = [&](const RunMetrics& m) { return m.validation_at_seconds(c.seconds).value_or(kNan); };
  r.loss = over_seeds(runs, at_step);
  const auto perplexity = [&](const RunMetrics& m) { return std::exp(at_step(m)); };
  r.perplexity = over_seeds(runs, perplexity);
  if (first) {
    r.loss_difference = over_pairs(runs, *first, at_step);
    r.perplexity_difference = over_pairs(runs, *first, perplexity);
  }
  r.training_loss = over_seeds(runs, [&](const RunMetrics& m) { return m.training_loss(c.step); });
  r.loss_at_seconds = over_seeds(runs, at_seconds);
  r.perplexity_at_seconds = over_seeds(runs, [&](const RunMetrics& m) { return std::exp(at_seconds(m)); });
  r.tokens_per_second = over_seeds(runs, [](const RunMetrics& m) { return m.tokens_per_second(); });
  r.largest_gate = over_seeds(runs, [](const RunMetrics& m) { return m.largest_gate(); });
}

Json json_of(const std::optional<Spread>& s) {
  if (!s) return nullptr;
  return {{"mean", s->mean}, {"deviation", s->deviation ? Json(*s->deviation) : Json(nullptr)}};
}

std::string text_of(const std::optional<Spread>& s, int digits) {
  if (!s) return "-";
  return fmt::format("{:.{}f}", s->mean, digits) +
         (s->deviation ? fmt::format(" ± {:.{}f}", *s->deviation, digits) : "");
}

std::string padded(const std::string& text, i64 columns, bool left = false) {
  const std::string blanks(static_cast<std::size_t>(std::max<i64>(0, columns - columns_of(text))), ' ');
  return left ? text + blanks : blanks + text;
}

std::string aligned(const std::vector<std::vector<std::string>>& rows) {
  std::vector<i64> widths(rows[0].size(), 0);
  for (const auto& row : rows)
    for (std::size_t c = 0; c < row.size(); ++c) widths[c] = std::max(widths[c], columns_of(row[c]));
  std::string text;
  for (const auto& row : rows) {
    for (std::size_t c = 0; c < row.size(); ++c)
      text += (c == 0 ? "" : "  ") + padded(row[c], widths[c], /*left=*/c == 0);
    text += "\n";
  }
  return text;
}

}  // namespace

Variation parse_variation(const std::string& text) {
  const std::size_t equals = text.find('=');
  if (equals == std::string::npos || equals == 0)
    throw user_error("--vary {}: expected KEY=A,B, for example model.mixer.input_gate=exp,sigmoid", text);
  Variation v{.key = text.substr(0, equals), .values = {}};
  for (std::size_t begin = equals + 1; begin <= text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    const std::string value = text.substr(begin, end - begin);
    if (value.empty()) throw user_error("--vary {}: a value is empty; expected KEY=A,B", text);
    if (std::find(v.values.begin(), v.values.end(), value) != v.values.end())
      throw user_error("--vary {}: '{}' stands there twice", text, value);
    v.values.push_back(value);
    begin = end + 1;
  }
  return v;
}

std::vector<Arm> make_arms(const std::vector<Variation>& variations) {
  std::set<std::string> keys, names;
  for (const Variation& v : variations) {
    if (!keys.insert(v.key).second) throw user_error("--vary {}: given twice; list all its values at once", v.key);
    if (v.key == "run.seed") throw user_error("--vary run.seed: use --seeds N, which takes the mean over them");
    if (decides_data(v.key))
      throw user_error(
          "--vary {}: the arms would not see the same tokens, so their losses could not be compared; run it apart",
          v.key);
    names.insert(last_part(v.key));
  }
  const bool short_names = names.size() == keys.size();
  std::vector<Arm> arms{Arm{}};
  for (const Variation& v : variations) {
    std::vector<Arm> more;
    for (const Arm& arm : arms)
      for (const std::string& value : v.values) {
        more.push_back(arm);
        more.back().name += (arm.name.empty() ? "" : " ") + (short_names ? last_part(v.key) : v.key) + "=" + value;
        more.back().assignments.push_back(v.key + "=" + value);
      }
    arms = std::move(more);
  }
  return arms;
}

std::optional<Spread> spread_of(const std::vector<double>& values) {
  if (values.empty() || !std::all_of(values.begin(), values.end(), [](double v) { return std::isfinite(v); }))
    return std::nullopt;
  const auto n = static_cast<double>(values.size());
  double sum = 0, squares = 0;
  for (const double v : values) sum += v;
  for (const double v : values) squares += (v - sum / n) * (v - sum / n);
  return Spread{sum / n, values.size() > 1 ? std::optional(std::sqrt(squares / (n - 1))) : std::nullopt};
}

Comparison compare_runs(const std::vector<Arm>& arms, std::vector<std::vector<ArmRun>> runs,
                        const std::vector<i64>& peak_bytes) {
  Comparison c;
  for (std::size_t a = 0; a < arms.size(); ++a) {
    c.arms.push_back(counts_of(arms[a], runs[a]));
    c.arms.back().peak_bytes = peak_bytes[a];
    std::erase_if(runs[a], [](const ArmRun& run) { return run.metrics.evaluations.empty(); });
  }
  c.step = common_step(runs);
  c.seconds = common_seconds(runs);
  for (const auto& arm : runs)
    for (const ArmRun& run : arm)
      for (const EvaluationMetrics& e : run.metrics.evaluations)
        if (e.step == c.step) c.tokens = e.tokens;
  for (std::size_t a = 0; a < arms.size(); ++a) add_results(c.arms[a], runs[a], a > 0 ? &runs[0] : nullptr, c);
  return c;
}

Json Comparison::to_json() const {
  Json list = Json::array();
  for (const ArmResult& a : arms)
    list.push_back({{"arm", a.name},
                    {"seeds", a.seeds},
                    {"evaluated", a.evaluated},
                    {"finished", a.finished},
                    {"diverged", a.diverged},
                    {"loss", json_of(a.loss)},
                    {"perplexity", json_of(a.perplexity)},
                    {"loss_difference", json_of(a.loss_difference)},
                    {"perplexity_difference", json_of(a.perplexity_difference)},
                    {"training_loss", json_of(a.training_loss)},
                    {"loss_at_equal_seconds", json_of(a.loss_at_seconds)},
                    {"perplexity_at_equal_seconds", json_of(a.perplexity_at_seconds)},
                    {"tokens_per_second", json_of(a.tokens_per_second)},
                    {"peak_bytes", a.peak_bytes},
                    {"largest_input_gate_preactivation", json_of(a.largest_gate)},
                    {"skipped_updates", a.skipped}});
  return {{"step", step}, {"tokens", tokens}, {"seconds", seconds}, {"arms", list}};
}

namespace {

std::string seeds_of(const ArmResult& a) {
  std::string text = std::to_string(a.seeds);
  if (a.evaluated < a.seeds) text += fmt::format(" ({} so far)", a.evaluated);
  if (a.diverged > 0) text += fmt::format(" ({} diverged)", a.diverged);
  return text;
}

}  // namespace

std::string Comparison::table() const {
  std::vector<std::vector<std::string>> rows{{"arm", "seeds", "loss", "Δ loss", "perplexity", "loss, equal time",
                                              "perplexity, equal time", "tokens/s", "memory", "largest gate",
                                              "skipped"}};
  bool unfinished = false;
  for (const ArmResult& a : arms) {
    unfinished = unfinished || a.finished + a.diverged < a.seeds;
    rows.push_back({a.name, seeds_of(a), text_of(a.loss, 4), text_of(a.loss_difference, 4), text_of(a.perplexity, 2),
                    text_of(a.loss_at_seconds, 4), text_of(a.perplexity_at_seconds, 2), text_of(a.tokens_per_second, 0),
                    human_bytes(a.peak_bytes), text_of(a.largest_gate, 2), std::to_string(a.skipped)});
  }
  std::string text = aligned(rows);
  text += fmt::format(
      "validation, at {} tokens (step {}), and after {} of training; ± over seeds; Δ to the first arm, seed by seed\n",
      human_count(static_cast<double>(tokens)), step, human_duration(seconds));
  if (unfinished) text += "some runs are not finished: the same command goes on with them\n";
  return text;
}

}  // namespace xlstm
