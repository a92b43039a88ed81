#pragma once
// How parameters start (spec §6.1), and the random numbers for it: keyed by the parameter's name, so that neither the
// order of layers nor the number of ranks changes a bit.
#include "core/context.h"
#include "core/params.h"
#include "model/config.h"

namespace xlstm {

Init small_init(i64 dim);                // normal, std = sqrt(2 / (5 d))
Init wang_init(const ModelConfig& cfg);  // normal, std = 2 / (num_blocks sqrt(d)); d is the embedding width, always

// f32 or f64, on any device. `into`: where the masters lie elsewhere, the values can be had in place of the gradients.
enum class InitialValues : std::uint8_t { masters, gradients };
void initialise(Context& ctx, const ParamStore& params, std::uint64_t seed,
                InitialValues into = InitialValues::masters);

}  // namespace xlstm
