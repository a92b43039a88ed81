#include "train/run_log.h"

#include <cmath>

#include "core/text.h"

namespace xlstm {

namespace {

// JSON has no NaN: a loss that is not finite is written as null.
Json number(double x) { return std::isfinite(x) ? Json(x) : Json(nullptr); }

// Whole lines of this program only; what a kill or a full disk has left of others goes.
bool is_up_to(const Json& line, i64 step) {
  const auto at = line.is_object() ? line.find("step") : line.end();
  return at != line.end() && at->is_number_integer() && at->get<i64>() <= step;
}

}  // namespace

std::string RunLog::keep_lines(const fs::path& metrics, i64 up_to_step) {
  std::string kept;
  if (!fs::exists(metrics)) return kept;
  const std::string text = read_file(metrics);
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = text.find('\n', at);
    if (end == std::string::npos) break;
    const Json line = Json::parse(text.begin() + static_cast<std::ptrdiff_t>(at),
                                  text.begin() + static_cast<std::ptrdiff_t>(end), nullptr, /*allow_exceptions=*/false);
    if (is_up_to(line, up_to_step)) {
      kept += text.substr(at, end - at + 1);
      if (line.contains("validation_loss")) last_evaluation_ = line["step"].get<i64>();
    }
    at = end + 1;
  }
  return kept;
}

RunLog::RunLog(const fs::path& metrics, i64 resumed_step, i64 steps, i64 console_every)
    : steps_(steps), console_every_(console_every), first_step_(resumed_step), line_step_(resumed_step) {
  write_file_atomically(metrics, keep_lines(metrics, resumed_step));
  file_ = std::make_unique<OutputFile>(metrics, /*append=*/true);
  if (stderr_is_terminal())
    bar_ = std::make_unique<Progress>("train", static_cast<double>(steps), " steps", static_cast<double>(resumed_step));
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
  write({{"step", r.step},
         {"tokens", r.tokens},
         {"loss", number(r.loss)},
         {"grad_norm", number(r.grad_norm)},
         {"lr", r.lr},
         {"tokens_per_second", r.tokens_per_second},
         {"mfu", r.mfu},
         {"seconds", r.seconds},
         {"data_wait", r.data_wait},
         {"applied", r.applied}});
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

void RunLog::evaluation(i64 step, double loss, i64 tokens) {
  write({{"step", step},
         {"validation_loss", number(loss)},
         {"validation_perplexity", number(std::exp(loss))},
         {"validation_tokens", tokens}});
  log_info("step {:>6}/{}  validation loss {:.4f}  perplexity {:.2f}  ({} tokens)", step, steps_, loss, std::exp(loss),
           tokens);
  last_evaluation_ = step;
}

void RunLog::finish(const std::string& note) {
  if (bar_) bar_->finish();
  bar_.reset();
  file_->close();
  log_info("{}", note);
}

}  // namespace xlstm
