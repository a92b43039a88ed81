#pragma once
// One update: gradients of the global batch, gathered slot by slot into a fixed tree of sums (docs/numerics.md), then
// clipping and AdamW. Each rank has the slots of its part of the batch.
#include <limits>
#include <optional>

#include "data/loader.h"
#include "train/exchange.h"
#include "train/memory.h"

namespace xlstm {

struct StepResult {
  double loss = 0;       // mean over the scored tokens, nats
  double grad_norm = 0;  // before clipping
  bool applied = true;   // false: loss or gradient was not finite, or its norm too large: no weight has changed
};

i64 scored_tokens(const TokenBatch& batch);

struct StepInput {
  const TokenBatch& batch;  // the sequences of one update, this rank's part
  double lr;
  i64 update;                   // counts the updates applied so far, this one included
  std::optional<i64> scored{};  // tokens of all ranks' parts; of one rank's they are counted here
  double norm_limit = std::numeric_limits<double>::infinity();  // of the gradient; a larger one is not applied
  std::function<void()> before_update{};  // the gradients are there, the weights are still those that made them
};

class TrainStep {
 public:
  // Of a rank; without ranks, of a run of one.
  TrainStep(Context& ctx, TrainState& state, const TrainConfig& cfg, Communicator* ranks = nullptr);

  StepResult run(const StepInput& in);
  StepResult run(const TokenBatch& batch, double lr, i64 update) { return run({batch, lr, update}); }

  // Weights that a rank has in its pieces alone, to all.
  void share_weights();

  // Before anything but a step reads the weights: those of other ranks may still be on their way.
  void settle();

  // Every op of a step, skipped: sizes the scratch arena.
  void dry_run();

 private:
  template <class F>
  void waiting(F&& f) const;
  void slot_gradients(i64 slot);
  void forward_backward(i64 micro, bool first, bool last);
  void merge_slot(i64 slot, i64 begin, i64 end);
  void part_ready(i64 slot, i64 part);
  i64 slots() const { return cfg_.parallel.reduction_slots / s_.shards.ranks().size; }  // of this rank
  i64 micro_batches() const { return cfg_.micro_batches() / s_.shards.ranks().size; }
  bool fast() const { return cfg_.parallel.reduction == Reduction::fast; }

  Context& ctx_;
  TrainState& s_;
  const TrainConfig& cfg_;
  std::optional<RankExchange> exchange_;  // with several ranks
};

}  // namespace xlstm
