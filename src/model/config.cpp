#include "model/config.h"

#include <cmath>

namespace xlstm {

namespace {

i64 scaled_dim(i64 dim, double factor) { return static_cast<i64>(std::llround(static_cast<double>(dim) * factor)); }

void require(bool ok, const char* key, const std::string& expected) {
  if (!ok) throw user_error("model.{}: {}", key, expected);
}

}  // namespace

i64 ModelConfig::qk_dim() const { return scaled_dim(embedding_dim, mixer.qk_dim_factor); }
i64 ModelConfig::v_dim() const { return scaled_dim(embedding_dim, mixer.v_dim_factor); }

i64 ModelConfig::ffn_dim() const {
  const double width = ffn.proj_factor * static_cast<double>(embedding_dim);
  return static_cast<i64>(std::ceil(width / static_cast<double>(ffn.round_up_to))) * ffn.round_up_to;
}

void ModelConfig::check() const {
  require(vocab_size >= 2, "vocab_size", fmt::format("is {}; at least 2 is needed", vocab_size));
  require(embedding_dim >= 1, "embedding_dim", fmt::format("is {}; at least 1 is needed", embedding_dim));
  require(num_blocks >= 1, "num_blocks", fmt::format("is {}; at least 1 is needed", num_blocks));
  require(norm_eps >= 0, "norm_eps", "must not be negative");
  require(output_logit_soft_cap > 0, "output_logit_soft_cap", "must be positive");
  require(mixer.num_heads >= 1, "mixer.num_heads", fmt::format("is {}; at least 1 is needed", mixer.num_heads));
  require(mixer.gate_soft_cap > 0, "mixer.gate_soft_cap", "must be positive");
  require(mixer.chunk_size >= 1, "mixer.chunk_size", fmt::format("is {}; at least 1 is needed", mixer.chunk_size));
  require(mixer.eps >= 0 && mixer.cell_norm_eps >= 0, "mixer", "eps and cell_norm_eps must not be negative");
  require(qk_dim() >= mixer.num_heads && qk_dim() % mixer.num_heads == 0, "mixer.qk_dim_factor",
          fmt::format("embedding_dim {} x qk_dim_factor {} = {} does not divide into {} heads", embedding_dim,
                      mixer.qk_dim_factor, qk_dim(), mixer.num_heads));
  require(v_dim() >= mixer.num_heads && v_dim() % mixer.num_heads == 0, "mixer.v_dim_factor",
          fmt::format("embedding_dim {} x v_dim_factor {} = {} does not divide into {} heads", embedding_dim,
                      mixer.v_dim_factor, v_dim(), mixer.num_heads));
  require(ffn.round_up_to >= 1 && ffn.proj_factor > 0, "ffn", "proj_factor and round_up_to must be positive");
}

}  // namespace xlstm
