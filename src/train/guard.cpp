#include "train/guard.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace xlstm {

namespace {

// Of the logarithm of the norm. Below it the window is as good as constant, and a deviation says little.
constexpr double kLeastDeviation = 0.05;

}  // namespace

GuardState GuardState::read(const Json& state, const fs::path& file, i64 step) {
  GuardState s{.skipped_in_row = json_field<i64>(state, "skipped_in_row", file)};
  if (!state.contains("guard")) {  // saved before there was one
    s.good_step = s.skipped_in_row == 0 ? step : 0;
    return s;
  }
  const Json guard = json_field<Json>(state, "guard", file);
  s.rollbacks_in_row = json_field<i64>(guard, "rollbacks_in_row", file);
  s.good_step = json_field<i64>(guard, "good_step", file);
  s.norms = json_field<std::vector<double>>(guard, "norms", file);
  for (const auto& [begin, end] : json_field<std::vector<std::array<i64, 2>>>(guard, "left_out", file))
    s.left_out.push_back({begin, end});
  return s;
}

void GuardState::write(Json& state) const {
  Json ranges = Json::array();
  for (const SequenceRange& r : left_out) ranges.push_back({r.begin, r.end});
  state["skipped_in_row"] = skipped_in_row;
  state["guard"] = {
      {"rollbacks_in_row", rollbacks_in_row}, {"good_step", good_step}, {"norms", norms}, {"left_out", ranges}};
}

double norm_limit(const GuardConfig& cfg, const std::vector<double>& norms) {
  const auto window = static_cast<std::size_t>(cfg.window);
  if (cfg.sigmas == 0 || norms.size() < window) return std::numeric_limits<double>::infinity();
  double mean = 0, squares = 0;
  for (std::size_t i = norms.size() - window; i < norms.size(); ++i) mean += std::log(norms[i]);
  mean /= static_cast<double>(window);
  for (std::size_t i = norms.size() - window; i < norms.size(); ++i) {
    const double d = std::log(norms[i]) - mean;
    squares += d * d;
  }
  const double deviation = std::sqrt(squares / static_cast<double>(window - 1));
  return std::exp(mean + cfg.sigmas * std::max(deviation, kLeastDeviation));
}

SkipReason reason_of_skip(bool applied, double loss, double grad_norm) {
  if (applied) return SkipReason::none;
  if (!std::isfinite(loss)) return SkipReason::loss;
  return std::isfinite(grad_norm) ? SkipReason::norm : SkipReason::gradient;
}

void count_update(GuardState& state, const GuardConfig& cfg, bool applied, double grad_norm) {
  if (!applied) {
    ++state.skipped_in_row;
    return;
  }
  state.skipped_in_row = 0;
  if (grad_norm > 0) state.norms.push_back(grad_norm);  // of 0 there is no logarithm
  const auto size = static_cast<i64>(state.norms.size());
  if (size > cfg.window) state.norms.erase(state.norms.begin(), state.norms.begin() + (size - cfg.window));
}

void count_checkpoint(GuardState& state, i64 step) {
  if (state.skipped_in_row > 0) return;
  state.good_step = step;
  state.rollbacks_in_row = 0;
}

std::string name_in_timeline(i64 step, i64 rollbacks) {
  const std::string name = fmt::format("step_{:08}", step);
  return rollbacks == 0 ? name : fmt::format("{}_r{}", name, rollbacks);
}

}  // namespace xlstm
