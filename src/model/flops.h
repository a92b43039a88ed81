#pragma once
#include "model/config.h"

namespace xlstm {

i64 parameter_count(const ModelConfig& cfg);  // by building it on measuring arenas

// Floating-point operations per token, a multiply-add counting two: dense products with every parameter but the
// embedding, and the cell in chunkwise form (spec §7, §4.9 with the causal half of a chunk counted as computed).
double forward_flops_per_token(const ModelConfig& cfg, i64 context_length);
double training_flops_per_token(const ModelConfig& cfg, i64 context_length);  // three times that

}  // namespace xlstm
