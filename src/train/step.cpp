#include "train/step.h"

#include <algorithm>

#include "train/token_rows.h"

namespace xlstm {

i64 scored_tokens(const TokenBatch& batch) {
  return std::count_if(batch.targets.begin(), batch.targets.end(), [](std::int32_t t) { return t >= 0; });
}

TrainStep::TrainStep(Context& ctx, TrainState& state, const TrainConfig& cfg, Communicator* ranks)
    : ctx_(ctx), s_(state), cfg_(cfg) {
  ctx_.packed = &s_.packed;
  if (ranks && ranks->size() > 1) exchange_.emplace(*ranks, state, cfg);
}

// What a device finds out only when somebody waits for it. Ops name the step themselves.
template <class F>
void TrainStep::waiting(F&& f) const {
  try {
    f();
  } catch (const GpuError& e) {
    throw GpuError(fmt::format("step {}: {}{}", ctx_.step, e.what(), kAskForCheck));
  }
}

// Between the two copies in and the one out, nothing waits for the device.
StepResult TrainStep::run(const StepInput& in) {
  XL_CHECK(in.scored || !exchange_, "with several ranks, the scored tokens of all are needed");
  const i64 scored = in.scored ? *in.scored : scored_tokens(in.batch);
  const double inverse = scored > 0 ? 1.0 / static_cast<double>(scored) : 0;
  waiting([&] {
    upload_batch(ctx_, s_.batch, in.batch);
    upload(ctx_, s_.scalars, s_.optimizer.scalars(in.lr, in.update, inverse, in.norm_limit).data());
  });

  const auto compute = [&] {
    if (fast()) {
      ops::fill(ctx_, s_.all_gradients, 0);
      for (i64 micro = 0; micro < micro_batches(); ++micro)
        forward_backward(micro, micro == 0, micro + 1 == micro_batches());
    } else {
      for (i64 slot = 0; slot < slots(); ++slot) slot_gradients(slot);
    }
    if (exchange_)
      exchange_->finish_gradients(ctx_);
    else
      ops::sum_squares(ctx_, s_.square_sums, s_.all_gradients);
    if (in.before_update) in.before_update();
    ops::clip(ctx_, s_.scalars, s_.loss_sums, s_.square_sums, cfg_.optimizer.clip);
    s_.optimizer.step(ctx_, s_.scalars);
    weights_changed(ctx_);
    if (exchange_) exchange_->send_weights(ctx_);
  };
  // What a host does in between cannot be repeated.
  const bool launches_alone = !ctx_.profile && !ctx_.check_ops && !in.before_update;
  if (ctx_.gpu && cfg_.run.cuda_graph && launches_alone)
    ctx_.gpu->repeat(compute);
  else
    compute();

  std::array<double, kUpdateScalars> done{};
  waiting([&] { download(ctx_, done.data(), s_.scalars); });
  const auto scalar = [&](UpdateScalar which) { return done[static_cast<std::size_t>(which)]; };
  return {.loss = scalar(UpdateScalar::loss),
          .grad_norm = scalar(UpdateScalar::grad_norm),
          .applied = scalar(UpdateScalar::applied) != 0};
}

// A slot accumulates its micro-batches in order.
void TrainStep::slot_gradients(i64 slot) {
  ops::fill(ctx_, s_.all_gradients, 0);
  const i64 count = cfg_.micro_batches_per_slot(), first = slot * count;
  const bool last_slot = slot + 1 == slots();
  for (i64 micro = first; micro < first + count; ++micro)
    forward_backward(micro, micro == 0, last_slot && micro + 1 == first + count);
  if (!exchange_ || !last_slot) merge_slot(slot, 0, s_.all_gradients.cols);
}

// `first` and `last` of this update on this rank: where weights are waited for, and gradients leave.
void TrainStep::forward_backward(i64 micro, bool first, bool last) {
  const i64 size = cfg_.train.micro_batch_size;
  PassHooks hooks;
  if (exchange_ && first) hooks.before_forward = [this](i64 part) { exchange_->need_weights(ctx_, part); };
  if (exchange_ && last) hooks.after_backward = [this](i64 part) { part_ready(slots() - 1, part); };
  s_.model.forward_backward(ctx_, s_.losses, s_.batch.sequences(micro * size, size), s_.saved, cfg_.train.recompute,
                            s_.inverse_tokens(), hooks);
  const i64 place = s_.shards.ranks().rank * micro_batches() + micro;
  ops::sum(ctx_, s_.loss_sums.slice_rows(place, place + 1), s_.losses);
}

void TrainStep::part_ready(i64 slot, i64 part) {
  if (!fast()) merge_slot(slot, s_.shards.begin(part), s_.shards.end(part));
  exchange_->gradients_ready(ctx_, part);
}

// Sums slots in a fixed binary tree, ((0+1)+(2+3))+..., while they come one after another: like counting in binary,
// every trailing 1 of the slot's number is a sum of the same height that waits to be added. The last slot's number is
// all ones, so the whole sum then stands in all_gradients. Elements [begin, end) of the row.
void TrainStep::merge_slot(i64 slot, i64 begin, i64 end) {
  if (begin == end) return;
  const auto cut = [&](const Tensor& row) { return row.slice_cols(begin, end); };
  std::size_t level = 0;
  for (; slot >> level & 1; ++level)
    ops::add(ctx_, cut(s_.all_gradients), cut(s_.slot_partials[level]), cut(s_.all_gradients));
  if (slot + 1 < slots()) ops::copy(ctx_, cut(s_.slot_partials[level]), cut(s_.all_gradients));
}

void TrainStep::share_weights() {
  if (exchange_) exchange_->send_weights(ctx_);
  settle();
  weights_changed(ctx_);
}

void TrainStep::settle() {
  if (exchange_) exchange_->need_all_weights(ctx_);
}

void TrainStep::dry_run() {
  const TokenRows micro = s_.batch.sequences(0, cfg_.train.micro_batch_size);
  s_.model.forward_backward(ctx_, s_.losses, micro, s_.saved, cfg_.train.recompute, s_.inverse_tokens());
  s_.model.forward(ctx_, s_.losses, micro, s_.saved);
}

}  // namespace xlstm
