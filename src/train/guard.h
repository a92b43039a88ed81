#pragma once
// The guard: which updates are skipped, and what happens after too many of them. An update is skipped when its loss or
// gradient is not finite, or when its gradient norm is beyond what the norms of the accepted updates before it let
// expect (docs/numerics.md, "The guard"). The limit is known before the step, so the device decides alone
// (ops::clip), and no weight changes. Everything here is a function of what checkpoints hold.
#include <vector>

#include "core/json.h"
#include "train/config.h"

namespace xlstm {

// Training sequences [begin, end).
struct SequenceRange {
  i64 begin = 0, end = 0;
};

// Part of every checkpoint.
struct GuardState {
  i64 skipped_in_row = 0;
  i64 rollbacks_in_row = 0;               // since a good checkpoint was reached
  i64 good_step = 0;                      // of the newest scheduled checkpoint that an accepted update led to; 0: none
  std::vector<double> norms{};            // gradient norms of the newest accepted updates, oldest first
  std::vector<SequenceRange> left_out{};  // by each roll-back so far

  i64 rollbacks() const { return static_cast<i64>(left_out.size()); }

  static GuardState read(const Json& state, const fs::path& file, i64 step);  // UserError naming file and field
  void write(Json& state) const;
};

enum class SkipReason : std::uint8_t { none, loss, gradient, norm };
constexpr auto names_of(SkipReason) { return std::array{"none", "loss", "gradient", "norm"}; }

// Largest gradient norm of the next update; infinite while the window is not full, or without a limit.
double norm_limit(const GuardConfig& cfg, const std::vector<double>& norms);

SkipReason reason_of_skip(bool applied, double loss, double grad_norm);

// What an update does to the state.
void count_update(GuardState& state, const GuardConfig& cfg, bool applied, double grad_norm);

// The scheduled checkpoint of this step is about to be saved.
void count_checkpoint(GuardState& state, i64 step);

inline bool gives_up_on_row(const GuardConfig& cfg, const GuardState& state) {
  return state.skipped_in_row > cfg.max_skips;
}
inline bool may_roll_back(const GuardConfig& cfg, const GuardState& state) {
  return cfg.action == GuardAction::rollback && state.rollbacks_in_row < cfg.max_rollbacks;
}

// A step number may come again after a roll-back, with other data: "step_00000012", later "step_00000012_r1", ...
std::string name_in_timeline(i64 step, i64 rollbacks);

}  // namespace xlstm
