#pragma once
// An update that the guard skipped, computed again from its evidence: the same bits on the same kind of machine.
#include "train/anomaly.h"

namespace xlstm {

struct Replay {
  Anomaly recorded;
  Anomaly now;                           // loss, norms and gates, as computed again
  std::vector<std::string> differences;  // what has other bits: "loss", "gradient norm", "gates of blocks.1", ...
  std::string first_not_finite;          // the first operation that wrote such a number: "rmsnorm, layer 1, ...", or ""
};

// `folder`: RUN/anomalies/step_...; threads 0: every usable core. All ranks call it, and get the same. UserError when
// something of the evidence is missing or damaged.
Replay replay_anomaly(const fs::path& folder, i64 threads, Communicator& ranks);

}  // namespace xlstm
