#pragma once
// Whether all ranks compute with the same weights.
#include "dist/communicator.h"
#include "train/memory.h"

namespace xlstm {

// A fault that all ranks see together: rank 0 alone tells it, the program ends with exit code 1.
struct SharedFault : Error {
  using Error::Error;
};

// Compares the checksums of every weight as layers read it. SharedFault that names the first tensor that differs, and
// the ranks that are not with the majority; where there is none, all that differ.
void compare_replicas(Context& ctx, const TrainState& state, Communicator& ranks, i64 step);

}  // namespace xlstm
