#include "model/flops.h"

#include <algorithm>

#include "model/language_model.h"

namespace xlstm {

i64 parameter_count(const ModelConfig& cfg) {
  Arena values = Arena::measuring("parameters"), grads = Arena::measuring("gradients");
  ParamStore params(values, grads, DType::f32);
  const LanguageModel model(params, cfg);
  return params.count();
}

double forward_flops_per_token(const ModelConfig& cfg, i64 context_length) {
  const double heads = static_cast<double>(cfg.mixer.num_heads);
  const double k = static_cast<double>(cfg.qk_dim()) / heads, v = static_cast<double>(cfg.v_dim()) / heads;
  const double chunk = static_cast<double>(std::min(cfg.mixer.chunk_size, context_length));
  const double causal = 0.5 * (chunk + 1) / chunk;
  const double cell = heads * (2 * causal * chunk * (k + v) + 4 * k * v);
  const double dense = static_cast<double>(parameter_count(cfg) - cfg.vocab_size * cfg.embedding_dim);
  return 2 * dense + static_cast<double>(cfg.num_blocks) * cell;
}

double training_flops_per_token(const ModelConfig& cfg, i64 context_length) {
  return 3 * forward_flops_per_token(cfg, context_length);
}

}  // namespace xlstm
