#include "train/step.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "optim/clip.h"

namespace xlstm {

namespace {

void copy_rows(Tensor to, const std::vector<std::int32_t>& from, i64 first_row) {
  std::memcpy(to.data, from.data() + first_row, static_cast<std::size_t>(to.bytes()));
}

}  // namespace

StepResult TrainStep::run(const TokenBatch& batch, double lr, i64 update) {
  const i64 scored = std::count_if(batch.targets.begin(), batch.targets.end(), [](std::int32_t t) { return t >= 0; });
  const double scale = scored > 0 ? 1.0 / static_cast<double>(scored) : 0;
  for (i64 slot = 0; slot < cfg_.parallel.reduction_slots; ++slot) {
    slot_gradients(batch, slot, scale);
    merge_slot(slot);
  }

  StepResult result;
  result.loss = total_loss(scored);
  result.grad_norm = gradient_norm(ctx_, s_.params, s_.norm_sums);
  result.applied = std::isfinite(result.loss) && std::isfinite(result.grad_norm);
  if (result.applied) s_.optimizer.step(ctx_, lr, clip_scale(result.grad_norm, cfg_.optimizer.clip), update);
  return result;
}

void TrainStep::load_micro_batch(const TokenBatch& batch, i64 first_sequence) {
  const i64 row = first_sequence * batch.length;
  copy_rows(s_.micro.ids, batch.ids, row);
  copy_rows(s_.micro.targets, batch.targets, row);
  copy_rows(s_.micro.seq.starts, batch.starts, row);
}

// A slot accumulates its micro-batches in order.
void TrainStep::slot_gradients(const TokenBatch& batch, i64 slot, double scale) {
  ops::fill(ctx_, s_.all_gradients, 0);
  const i64 first = slot * cfg_.micro_batches_per_slot();
  for (i64 micro = first; micro < first + cfg_.micro_batches_per_slot(); ++micro) {
    load_micro_batch(batch, micro * cfg_.train.micro_batch_size);
    s_.model.forward_backward(ctx_, s_.losses, s_.micro, s_.saved, cfg_.train.recompute, scale);
    ops::sum(ctx_, s_.loss_sums.slice_rows(micro, micro + 1), s_.losses);
  }
}

// Sums slots in a fixed binary tree, ((0+1)+(2+3))+..., while they come one after another: like counting in binary,
// every trailing 1 of the slot's number is a sum of the same height that waits to be added. The last slot's number is
// all ones, so the whole sum then stands in all_gradients.
void TrainStep::merge_slot(i64 slot) {
  std::size_t level = 0;
  for (; slot >> level & 1; ++level) ops::add(ctx_, s_.all_gradients, s_.slot_partials[level], s_.all_gradients);
  if (slot + 1 < cfg_.parallel.reduction_slots) ops::copy(ctx_, s_.slot_partials[level], s_.all_gradients);
}

double TrainStep::total_loss(i64 scored) const {
  double total = 0;
  for (i64 micro = 0; micro < s_.loss_sums.rows; ++micro) total += *s_.loss_sums.row<double>(micro);
  return scored > 0 ? total / static_cast<double>(scored) : 0;
}

void TrainStep::dry_run() {
  s_.model.forward_backward(ctx_, s_.losses, s_.micro, s_.saved, cfg_.train.recompute, 1);
  s_.model.forward(ctx_, s_.losses, s_.micro, s_.saved);
}

}  // namespace xlstm
