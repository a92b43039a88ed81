#pragma once
// Text from a model: chunkwise prefill of each prompt, then one token per prompt and step with the recurrent state.
#include <functional>

#include "model/sampler.h"
#include "train/loaded_model.h"

namespace xlstm {

struct GenerateConfig {
  SamplingConfig sampling;
  i64 max_tokens = 256;
  int end_id = -1;  // a sequence ends when it draws this token; -1: never
};

struct GenerateReport {
  i64 prompt_tokens = 0, new_tokens = 0;
  double prefill_seconds = 0, decode_seconds = 0;
};

// Prompts are token ids, none empty. on_token(prompt, id) is called for every new token, also for end_id.
GenerateReport generate(const LoadedModel& model, const std::vector<std::vector<int>>& prompts,
                        const GenerateConfig& cfg, const std::function<void(std::size_t, int)>& on_token);

}  // namespace xlstm
