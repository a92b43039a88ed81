#include "train/weights.h"

#include <algorithm>

#include "kernels/ops.h"

namespace xlstm {

Weights::Weights(const ModelConfig& cfg, DType activations, Gpu* gpu)
    : values_(Arena::measuring("parameters")),
      rounded_(Arena::measuring("bf16 weights")),
      no_grads_(Arena::measuring("gradients")) {
  const auto build = [&] {
    no_grads_ = Arena::measuring("gradients");
    params_ =
        std::make_unique<ParamStore>(values_, no_grads_, DType::f32, activations == DType::bf16 ? &rounded_ : nullptr);
    model_ = std::make_unique<LanguageModel>(*params_, cfg);
  };
  build();
  const auto allocate = [&](Arena& arena, Buffer& buffer) {
    buffer = Buffer(std::max<i64>(arena.peak(), 1), gpu);
    arena = Arena(arena.name(), buffer.data(), arena.peak(), buffer.device());
  };
  allocate(values_, memory_);
  allocate(rounded_, rounded_memory_);
  build();
}

void Weights::round(Context& ctx) {
  if (const Tensor rounded = params_->flat_rounded(); rounded.rows > 0)
    ops::copy(ctx, rounded, params_->flat_masters());
}

}  // namespace xlstm
