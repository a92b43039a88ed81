#pragma once
// What a model is made of. Field names are the field's own (spec §6, §10.1); defaults are the released xLSTM-7B block.
#include "core/config.h"
#include "kernels/cell.h"

namespace xlstm {

enum class MixerType : std::uint8_t { mlstm };
constexpr auto names_of(MixerType) { return std::array{"mlstm"}; }

struct MixerConfig {
  MixerType type = MixerType::mlstm;
  InputGate input_gate = InputGate::exp;  // exp: mLSTMexp, with normaliser. sigmoid: mLSTMsig, without
  i64 num_heads = 4;
  double qk_dim_factor = 0.5;  // width of q and of k, all heads together, over embedding_dim
  double v_dim_factor = 1.0;   // the same for v and h
  double gate_soft_cap = 15;   // on the pre-activations of both gates, after the bias
  i64 chunk_size = 64;         // a matter of speed, and of the last bits
  double igate_bias_init = -10;
  bool igate_learnable = true;               // false: the input gates stay as they begin, the same for every token
  Range fgate_bias_init = {3, 6};            // spread over the heads
  double eps = 1e-6;                         // added to the normaliser
  HeadNorm cell_norm = HeadNorm::layernorm;  // of each head's output
  double cell_norm_eps = 1e-6;               // of that norm
};
void visit(auto& v, MixerConfig& c) {
  v("type", c.type);
  v("input_gate", c.input_gate);
  v("num_heads", c.num_heads);
  v("qk_dim_factor", c.qk_dim_factor);
  v("v_dim_factor", c.v_dim_factor);
  v("gate_soft_cap", c.gate_soft_cap);
  v("chunk_size", c.chunk_size);
  v("igate_bias_init", c.igate_bias_init);
  v("igate_learnable", c.igate_learnable);
  v("fgate_bias_init", c.fgate_bias_init);
  v("eps", c.eps);
  v("cell_norm", c.cell_norm);
  v("cell_norm_eps", c.cell_norm_eps);
}

struct FfnConfig {
  double proj_factor = 2.667;
  i64 round_up_to = 64;
};
void visit(auto& v, FfnConfig& c) {
  v("proj_factor", c.proj_factor);
  v("round_up_to", c.round_up_to);
}

struct ModelConfig {
  i64 vocab_size = 50304;
  i64 embedding_dim = 768;
  i64 num_blocks = 12;
  double norm_eps = 1e-6;
  double output_logit_soft_cap = 30;
  MixerConfig mixer;
  FfnConfig ffn;

  i64 qk_dim() const;  // of all heads together
  i64 v_dim() const;
  i64 ffn_dim() const;  // ceil(proj_factor d / round_up_to) round_up_to, on the real number (spec §6)
  void check() const;   // UserError naming the key when sizes do not fit together
};
void visit(auto& v, ModelConfig& c) {
  v("vocab_size", c.vocab_size);
  v("embedding_dim", c.embedding_dim);
  v("num_blocks", c.num_blocks);
  v("norm_eps", c.norm_eps);
  v("output_logit_soft_cap", c.output_logit_soft_cap);
  v("mixer", c.mixer);
  v("ffn", c.ffn);
}

}  // namespace xlstm
