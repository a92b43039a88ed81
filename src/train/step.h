#pragma once
// One update: gradients of the global batch, gathered slot by slot into a fixed tree of sums (docs/numerics.md), then
// clipping and AdamW.
#include "data/loader.h"
#include "train/memory.h"

namespace xlstm {

struct StepResult {
  double loss = 0;       // mean over the scored tokens, nats
  double grad_norm = 0;  // before clipping
  bool applied = true;   // false: loss or gradient was not finite, and no weight has changed
};

class TrainStep {
 public:
  TrainStep(Context& ctx, TrainState& state, const TrainConfig& cfg) : ctx_(ctx), s_(state), cfg_(cfg) {}

  // `batch` holds the sequences of one update. `update` counts the updates applied so far, this one included.
  StepResult run(const TokenBatch& batch, double lr, i64 update);

  // Every op of a step, skipped: sizes the scratch arena.
  void dry_run();

 private:
  void slot_gradients(i64 slot, double scale);
  void merge_slot(i64 slot);

  Context& ctx_;
  TrainState& s_;
  const TrainConfig& cfg_;
};

}  // namespace xlstm
