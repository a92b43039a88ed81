#include "model/flops.h"

#include "model/language_model.h"

namespace xlstm {

i64 parameter_count(const ModelConfig& cfg) {
  Arena values = Arena::measuring("parameters"), grads = Arena::measuring("gradients");
  ParamStore params(values, grads, DType::f32);
  const LanguageModel model(params, cfg);
  return params.count();
}

double forward_flops_per_token(const ModelConfig& cfg, i64 context_length) {
  const i64 heads = cfg.mixer.num_heads;
  const CellShape shape{.heads = heads, .chunk = cfg.mixer.chunk_size};
  const double cell = mlstm_forward_flops(shape, context_length, cfg.qk_dim() / heads, cfg.v_dim() / heads) /
                      static_cast<double>(context_length);
  const double dense = static_cast<double>(parameter_count(cfg) - cfg.vocab_size * cfg.embedding_dim);
  return 2 * dense + static_cast<double>(cfg.num_blocks) * cell;
}

double training_flops_per_token(const ModelConfig& cfg, i64 context_length) {
  return 3 * forward_flops_per_token(cfg, context_length);
}

}  // namespace xlstm
