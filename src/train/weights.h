#pragma once
// A model's weights on a machine, without gradients or moments: for passes that do not train.
#include <memory>

#include "core/memory.h"
#include "kernels/packed_weights.h"
#include "model/language_model.h"
#include "train/machine.h"

namespace xlstm {

class Weights {
 public:
  // f32, unset; with activations in bf16 also the rounded copies of matrices that products take.
  Weights(const ModelConfig& cfg, const RunConfig& run, Gpu* gpu);
  Weights(const Weights&) = delete;
  Weights& operator=(const Weights&) = delete;

  const LanguageModel& model() const { return *model_; }
  ParamStore& params() { return *params_; }
  void round(Context& ctx);  // the copies, after the f32 were set
  PackedWeights& packed() { return packed_; }

 private:
  Buffer memory_, rounded_memory_;
  Arena values_, rounded_, no_grads_;
  std::unique_ptr<ParamStore> params_;
  std::unique_ptr<LanguageModel> model_;
  PackedWeights packed_;
};

// Memory for the matrices behind the embedding, where products want them packed: in bf16 on a processor with AMX.
PackedWeights plan_packed_weights(Arena& rounded, const ParamStore& params, const RunConfig& run);

}  // namespace xlstm
