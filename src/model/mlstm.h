#pragma once
// The mLSTM layer: projections, capped gates, cell, per-head norm, output gate, output projection   (spec §6)
#include "model/config.h"
#include "model/linear.h"
#include "model/saved.h"
#include "model/sequence.h"

namespace xlstm {

struct MLstm {
  struct Saved {
    Tensor qkvo;        // (rows, 2 K H + V H + V H)   q | k | v | output gate pre-activation
    Tensor gate_pre;    // (rows, 2 H)                 before bias and cap; of the norm before this layer   cheap
    Gates log;          // (rows, H) each              cheap
    Tensor h;           // (rows, V H)                 out of the cell
    CellStats stats;    // (rows, H) each              with a normaliser only
    Tensor mean, rstd;  // (rows, H)                 of the head norm
    Tensor gated;       // (rows, V H)                 cheap
    Tensor extremes;    // (2, 2 H)                    of gate_pre with its bias, since somebody reset them
  };
  using State = CellState;  // what generation carries from token to token

  i64 qk_dim, v_dim;  // of all heads together
  MixerConfig cfg;
  Linear qkvo;
  Param gates;      // (2 H, D)   the norm before this layer multiplies by it
  Param gate_bias;  // (1, 2 H)
  Param norm;       // (1, V H)
  Linear out;

  MLstm(ParamStore& ps, const std::string& name, const ModelConfig& model);

  Saved plan(SavePlan& p, DType t, i64 rows) const;
  State plan_state(Arena& arena, DType t, i64 sequences) const;

  // y = residual + the layer's output for x
  void forward(Context& ctx, Tensor y, Tensor residual, Tensor x, const Saved& s, const SequenceView& seq) const {
    forward_with_state(ctx, y, residual, x, s, seq, /*last=*/{}, /*first=*/{});
    const ClassScope in(ctx, OpClass::gates);
    ops::gate_extremes(ctx, s.extremes, s.gate_pre, gate_bias.value);
  }
  void rebuild(Context& ctx, const Saved& s, const SequenceView& seq) const;
  // dy is the residual's gradient, too; dx is x's alone, without what comes through gate_pre.
  void backward(Context& ctx, Tensor dx, Tensor dgate_pre, Tensor dy, Tensor x, const Saved& s,
                const SequenceView& seq) const;

  // Behind the backward pass of the layer and of the norm before it, which knows the gates, too. Of gates that are not
  // learnt: weights of 0 stay 0 and a bias stays what it is when their gradients are 0, weight decay included.
  void drop_fixed_gradients(Context& ctx) const;

  // Prefill: chunkwise from `first` (absent: the zero state); the state after the last token goes to `last`.
  void forward_with_state(Context& ctx, Tensor y, Tensor residual, Tensor x, const Saved& s, const SequenceView& seq,
                          State last, State first) const;
  // Decode: the recurrent form, updating `state` in place.
  void step(Context& ctx, Tensor y, Tensor residual, Tensor x, const Saved& s, const SequenceView& seq,
            State state) const;

 private:
  CellInputs cell_inputs(Tensor fused, Gates log) const;
  Tensor ogate(Tensor fused) const { return fused.slice_cols(2 * qk_dim + v_dim, 2 * qk_dim + 2 * v_dim); }
  CellShape shape(const Context& ctx, const SequenceView& seq) const;
  Tensor workspace(Context& ctx, const SequenceView& seq, DType t, bool backward) const;
  void project(Context& ctx, Tensor x, const Saved& s, const SequenceView& seq) const;
  void read_out(Context& ctx, Tensor y, Tensor residual, const Saved& s) const;
};

}  // namespace xlstm
