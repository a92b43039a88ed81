#include "model/config.h"

#include <cmath>

namespace xlstm {

namespace {

constexpr double kLargestBias = 1e4;  // of a gate: beyond every soft cap, and far from where f32 ends
constexpr i64 kWidest = 1 << 20;      // beyond any model: sizes of tensors stay within 64 bits

i64 scaled_dim(i64 dim, double factor) { return static_cast<i64>(std::llround(static_cast<double>(dim) * factor)); }

void require(bool ok, const char* key, const std::string& expected) {
  if (!ok) throw user_error("model.{}: {}", key, expected);
}

void require_between(i64 value, i64 least, i64 most, const char* key) {
  require(least <= value && value <= most, key, fmt::format("is {}; {} to {} is expected", value, least, most));
}

}  // namespace

i64 ModelConfig::qk_dim() const { return scaled_dim(embedding_dim, mixer.qk_dim_factor); }
i64 ModelConfig::v_dim() const { return scaled_dim(embedding_dim, mixer.v_dim_factor); }

i64 ModelConfig::ffn_dim() const {
  const double width = ffn.proj_factor * static_cast<double>(embedding_dim);
  return static_cast<i64>(std::ceil(width / static_cast<double>(ffn.round_up_to))) * ffn.round_up_to;
}

void ModelConfig::check() const {
  require_between(vocab_size, 2, i64{1} << 31, "vocab_size");  // token ids are 32-bit numbers
  require_between(embedding_dim, 1, kWidest, "embedding_dim");
  require_between(num_blocks, 1, 10'000, "num_blocks");
  require(norm_eps >= 0, "norm_eps", "must not be negative");
  require(output_logit_soft_cap > 0, "output_logit_soft_cap", "must be positive");
  require_between(mixer.num_heads, 1, kWidest, "mixer.num_heads");
  for (const auto& [key, factor] :
       {std::pair{"mixer.qk_dim_factor", mixer.qk_dim_factor}, std::pair{"mixer.v_dim_factor", mixer.v_dim_factor},
        std::pair{"ffn.proj_factor", ffn.proj_factor}})
    require(0 < factor && factor <= 64, key, fmt::format("is {}; more than 0 and at most 64 is expected", factor));
  for (const auto& [key, bias] : {std::pair{"mixer.igate_bias_init", mixer.igate_bias_init},
                                  std::pair{"mixer.fgate_bias_init", mixer.fgate_bias_init.from},
                                  std::pair{"mixer.fgate_bias_init", mixer.fgate_bias_init.to}})
    require(std::abs(bias) <= kLargestBias, key,
            fmt::format("is {}; {} to {} is expected", bias, -kLargestBias, kLargestBias));
  require(mixer.gate_soft_cap > 0, "mixer.gate_soft_cap", "must be positive");
  require_between(mixer.chunk_size, 1, kWidest, "mixer.chunk_size");
  require(mixer.eps >= 0 && mixer.cell_norm_eps >= 0, "mixer", "eps and cell_norm_eps must not be negative");
  require(qk_dim() >= mixer.num_heads && qk_dim() % mixer.num_heads == 0, "mixer.qk_dim_factor",
          fmt::format("embedding_dim {} x qk_dim_factor {} = {} does not divide into {} heads", embedding_dim,
                      mixer.qk_dim_factor, qk_dim(), mixer.num_heads));
  require(v_dim() >= mixer.num_heads && v_dim() % mixer.num_heads == 0, "mixer.v_dim_factor",
          fmt::format("embedding_dim {} x v_dim_factor {} = {} does not divide into {} heads", embedding_dim,
                      mixer.v_dim_factor, v_dim(), mixer.num_heads));
  require_between(ffn.round_up_to, 1, kWidest, "ffn.round_up_to");
}

}  // namespace xlstm
