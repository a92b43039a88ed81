#pragma once
// Whether a run fits into the memory that there is, and what would.
#include <functional>
#include <optional>

#include "train/machine.h"
#include "train/memory.h"

namespace xlstm {

struct AvailableMemory {
  i64 host = 0, device = 0;
  int sharing = 1;  // ranks that take of the host's, this one included; a GPU is one rank's
  static AvailableMemory of(const Machine& machine, int sharing = 1);
};

// UserError where these do not fit: `what` needs more than there is, and what would mend that.
void expect_fit(const std::string& what, const std::vector<ArenaSize>& sizes, const AvailableMemory& available,
                const std::function<std::string()>& advice);

// The plan of a run, for one of its ranks. Ranks need the same, to one block of their share of the moments. UserError
// if it does not fit, with the settings nearest to it that do: the largest micro-batch, and the cheapest recompute
// policy.
std::vector<ArenaSize> plan_within(const TrainConfig& cfg, Device device, const AvailableMemory& available,
                                   Gpu* gpu = nullptr, Ranks ranks = {});

// What would fit, as settings to paste; none where nothing does, or where the setting is the run's own.
struct Suggestions {
  std::optional<i64> micro_batch_size;  // the largest that fits, also larger than the run's
  std::optional<Recompute> recompute;   // that computes least again and fits
};
Suggestions suggest(const TrainConfig& cfg, Device device, const AvailableMemory& available, Gpu* gpu = nullptr,
                    Ranks ranks = {});

bool fits(const std::vector<ArenaSize>& sizes, const AvailableMemory& available);

}  // namespace xlstm
