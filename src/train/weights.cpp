#include "train/weights.h"

#include <algorithm>

#include "kernels/ops.h"

namespace xlstm {

PackedWeights plan_packed_weights(Arena& rounded, const ParamStore& params, const RunConfig& run) {
  const Tensor row = params.flat_rounded();
  if (row.rows == 0 || row.device != Device::cpu || isa_asked_for(run) != CpuIsa::amx) return {};
  return {rounded, row.slice_cols(params.place(1), row.cols)};
}

Weights::Weights(const ModelConfig& cfg, const RunConfig& run, Gpu* gpu)
    : values_(Arena::measuring("parameters", gpu ? Device::cuda : Device::cpu)),
      rounded_(Arena::measuring("bf16 weights", gpu ? Device::cuda : Device::cpu)),
      no_grads_(Arena::measuring("gradients")) {
  const auto build = [&] {
    no_grads_ = Arena::measuring("gradients");
    params_ = std::make_unique<ParamStore>(values_, no_grads_, DType::f32,
                                           activation_type(run) == DType::bf16 ? &rounded_ : nullptr);
    model_ = std::make_unique<LanguageModel>(*params_, cfg);
    packed_ = plan_packed_weights(rounded_, *params_, run);
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
  packed_.forget();
}

}  // namespace xlstm
