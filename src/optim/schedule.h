#pragma once
// Learning rates: pure functions of the step (spec §8.1).
#include <array>

#include "core/tensor.h"

namespace xlstm {

// The main phase after warm-up: cosine and linear fall to final_factor of the peak; constant and wsd stay at it.
enum class ScheduleType : std::uint8_t { cosine, linear, constant, wsd };
constexpr auto names_of(ScheduleType) { return std::array{"cosine", "linear", "constant", "wsd"}; }

struct ScheduleConfig {
  ScheduleType type = ScheduleType::cosine;
  i64 warmup_steps = 0;    // linear from 0 to the peak
  i64 cooldown_steps = 0;  // linear to 0 at the end, from wherever the main phase ended
  double final_factor = 0.1;

  void check(i64 steps) const;  // UserError when the phases do not fit into the run
};
void visit(auto& v, ScheduleConfig& c) {
  v("type", c.type);
  v("warmup_steps", c.warmup_steps);
  v("cooldown_steps", c.cooldown_steps);
  v("final_factor", c.final_factor);
}

// The rate of update `step`, which counts from 1 to `steps`.
double learning_rate(const ScheduleConfig& schedule, double peak, i64 step, i64 steps);

}  // namespace xlstm
