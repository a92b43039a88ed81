#pragma once
// How long an update takes at least, by what it computes and what it moves; and the hardware that plans can be made
// for.
#include <optional>

#include "train/memory.h"

namespace xlstm {

struct Hardware {
  const char* name;
  double flops, bytes;  // per second: dense products in bf16, memory
  i64 memory;           // bytes
};

// By the makers' data sheets: "h100", "h200", "a100". UserError that lists them.
const Hardware& hardware_named(const std::string& name);

struct StepEstimate {
  double product_flops = 0, product_bytes = 0;  // of the classes that are matrix products and the cell
  double other_bytes = 0;                       // of all others, the update of the weights included
  // Products at the rate of one of the two, whichever takes longer; then the others at the rate of the memory.
  double seconds(double flops_per_second, double bytes_per_second) const;
};

// Every operation of an update, counted in a dry run: its tensors' bytes, each once.
StepEstimate estimate_step(const TrainConfig& cfg, Device device, Gpu* gpu = nullptr);

}  // namespace xlstm
