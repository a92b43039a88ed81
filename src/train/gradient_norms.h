#pragma once
// What of a step's gradients each parameter has: for the evidence of an update that was skipped.
#include "dist/communicator.h"
#include "train/memory.h"

namespace xlstm {

struct NamedNorm {
  std::string name;
  double norm = 0;
};

// Of every parameter, right after TrainStep::run and before anything else uses its memory. The blocks of the sums are
// those of the whole row, so the bits are the same for any number of ranks, and all ranks get all of them.
std::vector<NamedNorm> gradient_norms(Context& ctx, const TrainState& state, Communicator& ranks);

// Of "embedding", "blocks.0", ..., "head", from those.
std::vector<NamedNorm> layer_norms(const std::vector<NamedNorm>& parameters);

}  // namespace xlstm
