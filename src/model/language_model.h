#pragma once
// embedding -> blocks -> head. Built twice: on measuring arenas, to learn every size, and on real ones.
#include <functional>
#include <vector>

#include "model/block.h"
#include "model/lm_head.h"

namespace xlstm {

// What is done around the parts of a pass: 0 is the embedding, 1 + l block l, 1 + num_blocks the head. Parts come in
// this order in the forward pass, and in reverse in the backward pass.
struct PassHooks {
  std::function<void(i64 part)> before_forward, after_backward;  // each may be empty
};

// Gate pre-activations, with their bias and before the soft cap, over all layers and heads.
struct GateExtremes {
  double input_max = 0, input_min = 0, forget_max = 0, forget_min = 0;

  static GateExtremes none();  // infinities of the wrong sign
  void include(const GateExtremes& other);
};

struct LanguageModel {
  struct Saved {
    std::vector<Tensor> x;  // (rows, D): the input of every block, and of the head
    std::vector<Block::Saved> blocks;
  };
  using State = std::vector<Mixers::State>;  // one per block

  ModelConfig cfg;
  std::vector<i64> part_begins;  // where the parameters of each part begin in the rows of ParamStore
  Param embedding;               // (vocab, D)
  std::vector<Block> blocks;
  LmHead head;

  LanguageModel(ParamStore& ps, const ModelConfig& config);

  // Memory for one micro-batch of `rows` tokens that will be trained on.
  Saved plan(Arena& own, Arena& shared, Recompute policy, DType t, i64 rows) const;
  // Memory for a pass without backward: every block uses the same bytes.
  Saved plan_forward(Arena& arena, DType t, i64 rows) const;
  State plan_state(Arena& arena, DType t, i64 sequences) const;

  // loss (rows, 1) in nats. Gradients of `scale`, (1, 1) f64, times the sum of the losses are added to the parameters'
  // gradients.
  void forward_backward(Context& ctx, Tensor loss, const TokenRows& in, const Saved& s, Recompute policy, Tensor scale,
                        const PassHooks& hooks = {}) const;
  void forward(Context& ctx, Tensor loss, const TokenRows& in, const Saved& s) const;
  // Of the passes since the reset. Every block has its own, so `s` must be of plan().
  void reset_gate_extremes(Context& ctx, const Saved& s) const;
  std::vector<GateExtremes> gate_extremes(Context& ctx, const Saved& s) const;  // of each block
  // logits (rows, vocab) of every token.
  void logits(Context& ctx, Tensor logits, const TokenRows& in, const Saved& s) const;

  // logits (sequences, vocab) of the last token of each sequence.
  void prefill(Context& ctx, Tensor logits, Tensor ids, const SequenceView& seq, const Saved& s, const State& last,
               const State& first) const;
  // One token per sequence; `state` is updated in place.
  void step(Context& ctx, Tensor logits, Tensor ids, const SequenceView& seq, const Saved& s, const State& state) const;

 private:
  void embed(Context& ctx, Tensor y, Tensor ids) const;
  void run_blocks(Context& ctx, const TokenRows& in, const Saved& s, const PassHooks& hooks) const;
  void backward_blocks(Context& ctx, Tensor dy, const TokenRows& in, const Saved& s, Recompute policy,
                       const PassHooks& hooks) const;
};

}  // namespace xlstm
