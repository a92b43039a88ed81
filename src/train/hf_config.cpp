#include "train/hf_config.h"

#include <bit>
#include <cmath>

namespace xlstm {

namespace {

// As both readers compute a width from a factor, in floating point.
i64 cut_off(i64 dim, double factor) { return static_cast<i64>(static_cast<double>(dim) * factor); }
i64 rounded_up(i64 dim, double factor, i64 multiple) {
  const auto m = static_cast<double>(multiple);
  return static_cast<i64>(std::floor((static_cast<double>(dim) * factor + m - 1) / m) * m);
}

// A factor from which `width_of` finds exactly that width: the quotient, or its neighbour.
template <class F>
std::optional<double> factor_for(i64 dim, i64 width, F&& width_of) {
  const double quotient = static_cast<double>(width) / static_cast<double>(dim);
  for (const double factor : {quotient, std::nextafter(quotient, INFINITY), std::nextafter(quotient, 0.0)})
    if (width_of(factor) == width) return factor;
  return std::nullopt;
}

std::optional<double> cell_factor(i64 dim, i64 width) {
  return factor_for(dim, width,
                    [&](double f) { return cut_off(dim, f) == rounded_up(dim, f, 64) ? cut_off(dim, f) : -1; });
}

std::optional<double> ffn_factor(const ModelConfig& cfg) {
  return factor_for(cfg.embedding_dim, cfg.ffn_dim(),
                    [&](double f) { return rounded_up(cfg.embedding_dim, f, cfg.ffn.round_up_to); });
}

// Sizes of chunks that the published kernels take; it is a matter of speed alone.
i64 chunk_size_for(i64 chunk) {
  return chunk >= 16 && std::has_single_bit(static_cast<std::uint64_t>(chunk)) ? chunk : 64;
}

class Reader {
 public:
  Reader(const Json& json, const fs::path& file) : json_(json), file_(file) {}

  template <class T>
  T get(const char* key, T otherwise) const {
    return has(key) ? json_field<T>(json_, key, file_) : otherwise;
  }
  bool has(const char* key) const { return json_.contains(key) && !json_[key].is_null(); }

  // One size under two names. Readers that know the first name alone take a default where it is missing, so two
  // different values are a mistake.
  i64 size(const char* name, const char* other) const {
    if (has(name) && has(other) && get<i64>(name, 0) != get<i64>(other, 0))
      throw user_error("{}: {} is {} and {} is {}; they name the same size", file_.string(), name, get<i64>(name, 0),
                       other, get<i64>(other, 0));
    if (!has(name) && !has(other))
      throw user_error("{}: expected '{}' or '{}', found neither", file_.string(), name, other);
    return get<i64>(has(name) ? name : other, 0);
  }

  template <class T>
  void expect(const char* key, T value, T otherwise) const {
    if (get<T>(key, otherwise) != value)
      throw user_error("{}: '{}' is {}; only {} can be imported", file_.string(), key, json_[key].dump(),
                       Json(value).dump());
  }

 private:
  const Json& json_;
  const fs::path& file_;
};

}  // namespace

std::optional<std::string> why_not_hf(const ModelConfig& cfg) {
  const MixerConfig& m = cfg.mixer;
  if (m.input_gate == InputGate::sigmoid) return "it has no word for the sigmoid input gate (mLSTMsig)";
  if (m.cell_norm == HeadNorm::rmsnorm) return "its heads have a LayerNorm, but model.mixer.cell_norm is rmsnorm";
  if (m.cell_norm_eps != cfg.norm_eps)
    return fmt::format("it has one eps for all norms, but model.mixer.cell_norm_eps is {} and model.norm_eps {}",
                       m.cell_norm_eps, cfg.norm_eps);
  for (const auto& [what, width] : {std::pair{"q and k", cfg.qk_dim()}, std::pair{"v", cfg.v_dim()}})
    if (!cell_factor(cfg.embedding_dim, width))
      return fmt::format("its widths are multiples of 64, but that of {} is {}", what, width);
  if (!ffn_factor(cfg)) return fmt::format("it cannot say the width {} of the feed-forward layer", cfg.ffn_dim());
  return std::nullopt;
}

Json hf_config(const ModelConfig& cfg, DType weights, i64 eod_id) {
  const auto why = why_not_hf(cfg);
  XL_CHECK(!why, "{}", *why);
  const i64 d = cfg.embedding_dim;
  const char* dtype = weights == DType::bf16 ? "bfloat16" : "float32";
  return {{"model_type", "xlstm"},
          {"architectures", {"xLSTMForCausalLM"}},
          {"torch_dtype", dtype},
          {"vocab_size", cfg.vocab_size},
          {"hidden_size", d},
          {"embedding_dim", d},
          {"num_hidden_layers", cfg.num_blocks},
          {"num_blocks", cfg.num_blocks},
          {"num_heads", cfg.mixer.num_heads},
          {"qk_dim_factor", *cell_factor(d, cfg.qk_dim())},
          {"v_dim_factor", *cell_factor(d, cfg.v_dim())},
          {"ffn_proj_factor", *ffn_factor(cfg)},
          {"ffn_round_up_to_multiple_of", cfg.ffn.round_up_to},
          {"gate_soft_cap", cfg.mixer.gate_soft_cap},
          {"output_logit_soft_cap", cfg.output_logit_soft_cap},
          {"norm_eps", cfg.norm_eps},
          {"eps", cfg.mixer.eps},
          {"norm_reduction_force_float32", true},
          {"add_out_norm", true},
          {"use_bias", false},
          {"tie_word_embeddings", false},
          {"weight_mode", "single"},
          {"chunk_size", chunk_size_for(cfg.mixer.chunk_size)},
          {"chunkwise_kernel", "chunkwise--native_autograd"},
          {"sequence_kernel", "native_sequence__native"},
          {"step_kernel", "native"},
          {"mode", "inference"},
          {"return_last_states", true},
          {"autocast_kernel_dtype", dtype},
          {"inference_state_dtype", "float32"},
          {"use_cache", true},
          {"bos_token_id", eod_id},
          {"eos_token_id", eod_id},
          {"pad_token_id", eod_id},
          {"force_bos_token_insert", true}};
}

ModelConfig model_of_hf_config(const Json& json, const fs::path& file) {
  const Reader in(json, file);
  if (!json.is_object() || !in.has("model_type"))
    throw user_error("{}: expected \"model_type\": \"xlstm\", found none; it is no model of that layout",
                     file.string());
  in.expect<std::string>("model_type", "xlstm", "xlstm");
  in.expect("use_bias", false, false);
  in.expect("tie_word_embeddings", false, false);
  in.expect("add_out_norm", true, true);
  in.expect<std::string>("weight_mode", "single", "single");

  ModelConfig cfg;
  cfg.vocab_size = in.get("vocab_size", cfg.vocab_size);
  cfg.embedding_dim = in.size("hidden_size", "embedding_dim");
  cfg.num_blocks = in.size("num_hidden_layers", "num_blocks");
  cfg.norm_eps = in.get("norm_eps", cfg.norm_eps);
  cfg.output_logit_soft_cap = in.get("output_logit_soft_cap", cfg.output_logit_soft_cap);
  cfg.mixer.num_heads = in.get<i64>("num_heads", 8);
  cfg.mixer.qk_dim_factor = in.get("qk_dim_factor", cfg.mixer.qk_dim_factor);
  cfg.mixer.v_dim_factor = in.get("v_dim_factor", cfg.mixer.v_dim_factor);
  cfg.mixer.gate_soft_cap = in.get("gate_soft_cap", cfg.mixer.gate_soft_cap);
  cfg.mixer.eps = in.get("eps", cfg.mixer.eps);
  cfg.mixer.cell_norm_eps = cfg.norm_eps;
  cfg.ffn.proj_factor = in.get("ffn_proj_factor", cfg.ffn.proj_factor);
  cfg.ffn.round_up_to = in.get("ffn_round_up_to_multiple_of", cfg.ffn.round_up_to);
  try {
    cfg.check();
  } catch (const UserError& e) {
    throw user_error("{}: {}", file.string(), e.what());
  }
  // The layout's own arithmetic gives the width; factors are kept so that ours gives the same.
  const double width = static_cast<double>(rounded_up(cfg.embedding_dim, cfg.ffn.proj_factor, cfg.ffn.round_up_to));
  cfg.ffn.proj_factor = width / static_cast<double>(cfg.embedding_dim);
  return cfg;
}

std::string hf_name(const std::string& name) {
  if (name == "lm_head.weight") return name;
  return name == "embedding.weight" ? "backbone.embeddings.weight" : "backbone." + name;
}

}  // namespace xlstm
