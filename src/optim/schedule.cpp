#include "optim/schedule.h"

#include <cmath>
#include <numbers>

namespace xlstm {

void ScheduleConfig::check(i64 steps) const {
  if (warmup_steps < 0 || cooldown_steps < 0)
    throw user_error("schedule: warmup_steps and cooldown_steps must not be negative");
  if (!(0 <= final_factor && final_factor <= 1))
    throw user_error("schedule.final_factor: is {}; 0 to 1 is expected", final_factor);
  if (warmup_steps > steps || cooldown_steps > steps - warmup_steps)
    throw user_error(
        "schedule: warmup_steps {} + cooldown_steps {} exceed train.steps {}; shorten them or train longer",
        warmup_steps, cooldown_steps, steps);
  if (type == ScheduleType::constant && cooldown_steps > 0)
    throw user_error("schedule.type: constant has no cool-down, but cooldown_steps is {}; use wsd", cooldown_steps);
}

namespace {

// Of the peak, at `progress` in [0, 1] of the main phase.
double main_phase(const ScheduleConfig& s, double progress) {
  switch (s.type) {
    case ScheduleType::cosine:
      return s.final_factor + (1 - s.final_factor) * 0.5 * (1 + std::cos(std::numbers::pi * progress));
    case ScheduleType::linear: return 1 + (s.final_factor - 1) * progress;
    case ScheduleType::constant:
    case ScheduleType::wsd: return 1;
  }
  return 1;
}

}  // namespace

double learning_rate(const ScheduleConfig& s, double peak, i64 step, i64 steps) {
  if (step < s.warmup_steps) return peak * static_cast<double>(step) / static_cast<double>(s.warmup_steps);
  const i64 main_steps = steps - s.warmup_steps - s.cooldown_steps;
  const i64 main_end = steps - s.cooldown_steps;
  if (step <= main_end)
    return peak * main_phase(s, main_steps > 0
                                    ? static_cast<double>(step - s.warmup_steps) / static_cast<double>(main_steps)
                                    : 1);
  return peak * main_phase(s, 1) * static_cast<double>(steps - step) / static_cast<double>(s.cooldown_steps);
}

}  // namespace xlstm
