#pragma once
// Text from a model: chunkwise prefill of each prompt, then one token per prompt and step with the recurrent state.
#include <functional>

#include "data/tokenizer.h"
#include "model/sampler.h"
#include "train/loaded_model.h"

namespace xlstm {

struct GenerateConfig {
  SamplingConfig sampling;
  i64 max_tokens = 256;
  bool endless = false;  // after the end of a document the next one begins, instead of the text ending there
};

struct GenerateReport {
  i64 prompt_tokens = 0, new_tokens = 0;
  double prefill_seconds = 0, decode_seconds = 0;
};

// A model, wherever its weights are.
struct ModelInUse {
  const LanguageModel& model;
  DType type;  // of activations
  const Machine& machine;
  PackedWeights* packed = nullptr;  // optional
};

// Bytes that a Generator of so many prompts allocates, the longest of so many tokens. `dry` computes nothing.
i64 generation_bytes(const LanguageModel& model, DType type, i64 prompts, i64 longest, Context dry);

// The same prompts again and again, in memory that is allocated once.
class Generator {
 public:
  // As generate(); the model and its machine outlive this.
  Generator(const ModelInUse& in_use, const Tokenizer& tokenizer, std::vector<std::vector<int>> prompts,
            const GenerateConfig& cfg);
  ~Generator();
  GenerateReport run(std::uint64_t seed, const std::function<void(std::size_t, int)>& on_token);
  i64 bytes() const;  // allocated

 private:
  class Generation;
  std::unique_ptr<Generation> generation_;
};

// Prompts as ids. A document begins after an end-of-document token (spec §0.2): it opens every prompt.
std::vector<std::vector<int>> encode_prompts(const Tokenizer& tokenizer, const std::vector<std::string>& prompts);

// Prompts are ids of the tokenizer that the model was trained with, none empty. Only tokens that a text can hold are
// drawn. on_token(prompt, id) is called for every new one, also for the end-of-document id.
GenerateReport generate(const LoadedModel& model, const Tokenizer& tokenizer,
                        const std::vector<std::vector<int>>& prompts, const GenerateConfig& cfg,
                        const std::function<void(std::size_t, int)>& on_token);

}  // namespace xlstm
