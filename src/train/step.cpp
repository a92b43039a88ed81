#include "train/step.h"

#include <algorithm>

#include "train/token_rows.h"

namespace xlstm {

// Between the two copies in and the one out, nothing waits for the device.
StepResult TrainStep::run(const TokenBatch& batch, double lr, i64 update) {
  const i64 scored = std::count_if(batch.targets.begin(), batch.targets.end(), [](std::int32_t t) { return t >= 0; });
  const double inverse = scored > 0 ? 1.0 / static_cast<double>(scored) : 0;
  upload_batch(ctx_, s_.batch, batch);
  upload(ctx_, s_.scalars, s_.optimizer.scalars(lr, update, inverse).data());

  const auto compute = [&] {
    for (i64 slot = 0; slot < cfg_.parallel.reduction_slots; ++slot) {
      slot_gradients(slot, inverse);
      merge_slot(slot);
    }
    ops::sum_squares(ctx_, s_.square_sums, s_.all_gradients);
    ops::clip(ctx_, s_.scalars, s_.loss_sums, s_.square_sums, cfg_.optimizer.clip);
    s_.optimizer.step(ctx_, s_.scalars);
  };
  if (ctx_.gpu && cfg_.run.cuda_graph && !ctx_.profile && !ctx_.check_ops)
    ctx_.gpu->repeat(inverse, compute);
  else
    compute();

  std::array<double, kUpdateScalars> done{};
  download(ctx_, done.data(), s_.scalars);
  const auto scalar = [&](UpdateScalar which) { return done[static_cast<std::size_t>(which)]; };
  return {.loss = scalar(UpdateScalar::loss),
          .grad_norm = scalar(UpdateScalar::grad_norm),
          .applied = scalar(UpdateScalar::applied) != 0};
}

// A slot accumulates its micro-batches in order.
void TrainStep::slot_gradients(i64 slot, double scale) {
  ops::fill(ctx_, s_.all_gradients, 0);
  const i64 size = cfg_.train.micro_batch_size, first = slot * cfg_.micro_batches_per_slot();
  for (i64 micro = first; micro < first + cfg_.micro_batches_per_slot(); ++micro) {
    s_.model.forward_backward(ctx_, s_.losses, s_.batch.sequences(micro * size, size), s_.saved, cfg_.train.recompute,
                              scale);
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

void TrainStep::dry_run() {
  const TokenRows micro = s_.batch.sequences(0, cfg_.train.micro_batch_size);
  s_.model.forward_backward(ctx_, s_.losses, micro, s_.saved, cfg_.train.recompute, 1);
  s_.model.forward(ctx_, s_.losses, micro, s_.saved);
}

}  // namespace xlstm
