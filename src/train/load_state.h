#pragma once
// A checkpoint into the memory of a run, on whatever device and however shared out among ranks.
#include "train/checkpoint_store.h"
#include "train/memory.h"
#include "train/step.h"

namespace xlstm {

struct StateMemory {
  Context& ctx;
  TrainState& state;
  TrainStep& step;
  Arena staging;  // host memory that nothing else uses meanwhile, where the state lies on a device
  Communicator& ranks;
};

struct WhatToLoad {
  bool with_optimizer = true;
  i64 up_to_step = std::numeric_limits<i64>::max();
  std::function<void(const Json& state)> check_state{};
};

// As load_newest_checkpoint; afterwards all weights are ready for a pass.
std::optional<LoadedCheckpoint> load_state(const StateMemory& memory, const fs::path& path, const WhatToLoad& what);

}  // namespace xlstm
