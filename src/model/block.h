#pragma once
// One residual block: mid = x + mixer(norm1(x));  y = mid + ffn(norm2(mid))      (spec §6)
#include "model/feed_forward.h"
#include "model/mixer.h"

namespace xlstm {

struct Block {
  struct Saved {
    Tensor norm1, rstd1;  // (rows, D) cheap, (rows, 1)
    Mixers::Saved mixer;
    Tensor mid;           // (rows, D)
    Tensor norm2, rstd2;  // (rows, D) cheap, (rows, 1)
    FeedForward::Saved ffn;
  };

  i64 dim;
  RmsNorm norm1;
  Mixers::Layer mixer;
  RmsNorm norm2;
  FeedForward ffn;

  Block(ParamStore& ps, const std::string& name, const ModelConfig& cfg);

  Saved plan(SavePlan& p, DType t, i64 rows) const;
  Mixers::State plan_state(Arena& arena, DType t, i64 sequences) const;

  void forward(Context& ctx, Tensor y, Tensor x, const Saved& s, const SequenceView& seq) const;
  void rebuild(Context& ctx, Tensor x, const Saved& s, const SequenceView& seq) const;
  void backward(Context& ctx, Tensor dx, Tensor dy, Tensor x, const Saved& s, const SequenceView& seq) const;

  void prefill(Context& ctx, Tensor y, Tensor x, const Saved& s, const SequenceView& seq, const Mixers::State& last,
               const Mixers::State& first) const;
  void step(Context& ctx, Tensor y, Tensor x, const Saved& s, const SequenceView& seq,
            const Mixers::State& state) const;

 private:
  void normalise(Context& ctx, Tensor x, const Saved& s) const;
  template <class Mix>
  void forward_with(Context& ctx, Tensor y, Tensor x, const Saved& s, Mix&& mix) const;
};

}  // namespace xlstm
