#include "train/run_log.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "core/text.h"
#include "train/report.h"
#include "train/run_metrics.h"

namespace xlstm {

namespace {

constexpr const char* kRollback = "rolled_back_from";
constexpr double kSecondsBetweenReports = 60;  // at least: a page takes a fraction of one

// JSON has no NaN: a loss that is not finite is written as null.
Json number(double x) { return std::isfinite(x) ? Json(x) : Json(nullptr); }

double number_of(const Json& line, const std::string& key) {
  return line.contains(key) && line[key].is_number() ? line[key].get<double>() : NAN;
}

std::size_t index_of(SkipReason reason) { return static_cast<std::size_t>(reason); }

std::optional<i64> step_of(const Json& line) {
  const auto at = line.is_object() ? line.find("step") : line.end();
  if (at == line.end() || !at->is_number_integer()) return std::nullopt;
  return at->get<i64>();
}

// What a kill leaves of the last line, and nothing else.
bool is_beginning_of_a_line(std::string_view text) {
  constexpr std::string_view kBegin = R"({"step":)";
  return text.starts_with(kBegin) || kBegin.starts_with(text);
}

}  // namespace

RunLog::Kept RunLog::keep_lines(const std::string& text, const LogStart& start) {
  Kept kept;
  i64 rollbacks = 0;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    const std::string line = text.substr(at, end - at);
    at = end + 1;
    if (line.empty() || (end == text.size() && is_beginning_of_a_line(line))) continue;
    const Json json = Json::parse(line, nullptr, /*allow_exceptions=*/false);
    const auto step = step_of(json);
    if (!step)
      ++kept.damaged;
    else if (*step > start.step || (json.contains(kRollback) && ++rollbacks > start.rollbacks))
      ++kept.later;
    else
      kept.lines += line + "\n";
    if (step && *step <= start.step && is_evaluation(json))
      evaluations_[*step] = number_of(json, start.deciding_set + "_loss");
  }
  return kept;
}

// Lines that are dropped without being written again soon stay in a file of their own.
std::string RunLog::open_metrics(const fs::path& metrics, const LogStart& start) {
  if (!fs::exists(metrics)) return "";
  const Kept kept = keep_lines(read_file(metrics), start);
  if (kept.damaged > 0) {
    const fs::path aside = move_aside(metrics, "damaged");
    log_warning("{}: {} not of this program left out; the whole file is now {}", metrics.string(),
                counted(kept.damaged, "line"), aside.string());
  } else if (start.step == 0 && start.rollbacks == 0 && kept.later > 0) {
    log_info("the run begins at step 0; the metrics so far are now {}", move_aside(metrics, "old").string());
  }
  return kept.lines;
}

RunLog::RunLog(const fs::path& metrics, const LogStart& start, i64 steps, i64 console_every)
    : steps_(steps),
      console_every_(console_every),
      first_step_(start.step),
      line_step_(start.step),
      deciding_set_(start.deciding_set),
      run_(metrics.parent_path()),
      events_(run_ / "events") {
  write_file_atomically(metrics, open_metrics(metrics, start));
  file_ = std::make_unique<OutputFile>(metrics, /*append=*/true);
  if (stderr_is_terminal())
    bar_ = std::make_unique<Progress>("train", static_cast<double>(steps), " steps", static_cast<double>(start.step));
}

// A full disk must not end a run: the line is lost, and the next one begins on a line of its own.
void RunLog::write(const Json& line) {
  try {
    file_->write((broken_ ? "\n" : "") + line.dump() + "\n");
    broken_ = false;
  } catch (const UserError& e) {
    if (!broken_) log_error("{}; training goes on, metrics are missing meanwhile", e.what());
    broken_ = true;
  }
}

void RunLog::step(const StepRecord& r) {
  Json line{{"step", r.step},
            {"tokens", r.tokens},
            {"loss", number(r.loss)},
            {"grad_norm", number(r.grad_norm)},
            {"lr", r.lr},
            {"tokens_per_second", r.tokens_per_second},
            {"mfu", r.mfu},
            {"seconds", r.seconds},
            {"data_wait", r.data_wait},
            {"applied", r.skipped == SkipReason::none},
            {"skipped", r.skipped == SkipReason::none ? Json(nullptr) : Json(names_of(r.skipped)[index_of(r.skipped)])},
            {"grad_norm_limit", number(r.norm_limit)},
            {"input_gate_max", number(r.gates.input_max)},
            {"input_gate_min", number(r.gates.input_min)},
            {"forget_gate_max", number(r.gates.forget_max)},
            {"forget_gate_min", number(r.gates.forget_min)}};
  for (const SetTokens& seen : r.tokens_by_set) line["tokens_by_set"][seen.set] = seen.tokens;
  for (const StepProfile::Row& row : r.classes) line["class_seconds"][row.name] = row.seconds;
  write(line);
  const Scalar scalars[] = {{"loss/train", r.loss},
                            {"train/grad_norm", r.grad_norm},
                            {"train/lr", r.lr},
                            {"train/skipped", r.skipped == SkipReason::none ? 0.0 : 1.0},
                            {"speed/tokens_per_second", r.tokens_per_second},
                            {"speed/mfu", r.mfu},
                            {"speed/data_wait", r.data_wait},
                            {"gates/input_max", r.gates.input_max},
                            {"gates/input_min", r.gates.input_min},
                            {"gates/forget_max", r.gates.forget_max},
                            {"gates/forget_min", r.gates.forget_min}};
  events_.add(r.step, scalars);
  if (bar_) bar_->update(static_cast<double>(r.step), fmt::format("loss {:.4f}", r.loss));
  if (r.step % console_every_ != 0 && r.step != steps_ && r.step != first_step_ + 1) return;
  const double per_step = timer_.seconds() / static_cast<double>(r.step - first_step_);
  // Speed since the line before.
  const double share = static_cast<double>(r.step - line_step_) / static_cast<double>(r.step);
  const double rate = share * static_cast<double>(r.tokens) / line_timer_.seconds();
  log_info("step {:>6}/{}  loss {:7.4f}  |g| {:8.4f}  lr {:.2e}  {:>7.0f} tok/s  {:4.1f} % of GEMM peak  {} left",
           r.step, steps_, r.loss, r.grad_norm, r.lr, rate, 100 * r.mfu * rate / r.tokens_per_second,
           human_duration(per_step * static_cast<double>(steps_ - r.step)));
  line_step_ = r.step;
  line_timer_ = {};
}

void RunLog::evaluation(i64 step, const std::vector<SetLoss>& losses) {
  Json line{{"step", step}};
  std::string told;
  std::vector<std::string> tags;
  std::vector<double> values;
  evaluations_[step] = NAN;
  for (const SetLoss& e : losses) {
    line[e.set + "_loss"] = number(e.loss);
    line[e.set + "_perplexity"] = number(std::exp(e.loss));
    line[e.set + "_tokens"] = e.tokens;
    told += fmt::format("{}{} loss {:.4f}  perplexity {:.2f}  ({} tokens)", told.empty() ? "" : ", ", e.set, e.loss,
                        std::exp(e.loss), e.tokens);
    tags.insert(tags.end(), {"loss/" + e.set, e.set + "/perplexity"});
    values.insert(values.end(), {e.loss, std::exp(e.loss)});
    if (e.set == deciding_set_) evaluations_[step] = e.loss;
  }
  write(line);
  log_info("step {:>6}/{}  {}", step, steps_, told);
  std::vector<Scalar> scalars;
  for (std::size_t i = 0; i < tags.size(); ++i) scalars.push_back({tags[i].c_str(), values[i]});
  events_.add(step, scalars);
  if (since_report_.seconds() < kSecondsBetweenReports) return;
  write_run_report(run_);
  since_report_ = {};
}

void RunLog::rollback(i64 from, const SequenceRange& left_out) {
  write({{"step", first_step_}, {kRollback, from}, {"left_out", {left_out.begin, left_out.end}}});
}

void RunLog::finish(const std::string& note) {
  if (bar_) bar_->finish();
  bar_.reset();
  file_->close();
  log_info("{}", note);
}

}  // namespace xlstm
