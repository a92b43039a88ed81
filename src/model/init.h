#pragma once
// How parameters start (spec §6.1), and the random numbers for it: keyed by the parameter's name, so that neither the
// order of layers nor the number of ranks changes a bit.
#include "core/context.h"
#include "core/params.h"
#include "model/config.h"

namespace xlstm {

Init small_init(i64 dim);                // normal, std = sqrt(2 / (5 d))
Init wang_init(const ModelConfig& cfg);  // normal, std = 2 / (num_blocks sqrt(d)); d is the embedding width, always

void initialise(Context& ctx, const ParamStore& params, std::uint64_t seed);  // f32 or f64, on any device

}  // namespace xlstm
