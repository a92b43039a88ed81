#pragma once
// A model's shape as the `xlstm` layout of Hugging Face says it in config.json, and back (spec §10.1).
#include <optional>

#include "core/json.h"
#include "model/config.h"

namespace xlstm {

// Why that layout cannot say this model: "it has no sigmoid input gate", or nothing. Widths are checked by the rules
// of both readers: `transformers` rounds q, k and v up to multiples of 64 in its caches, the `xlstm` package cuts off.
std::optional<std::string> why_not_hf(const ModelConfig& cfg);

// config.json. Sizes stand under both of their names, and factors are such that both readers find exactly the widths of
// the model. `eod_id` is the token before and after every document.
Json hf_config(const ModelConfig& cfg, DType weights, i64 eod_id);

// The model that a config.json describes. UserError that names the key where it is no xLSTM, or one that this program
// does not have (biases, tied embeddings, fused weights).
ModelConfig model_of_hf_config(const Json& json, const fs::path& file);

// "blocks.0.norm_ffn.weight" as that layout names it: "backbone.blocks.0.norm_ffn.weight".
std::string hf_name(const std::string& name);

}  // namespace xlstm
