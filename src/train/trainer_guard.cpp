// What a run does about updates that were skipped: evidence, roll-back, end.
#include "core/text.h"
#include "train/trainer.h"

namespace xlstm {

namespace {

std::string what_was_wrong(const StepRecord& r) {
  switch (r.skipped) {
    case SkipReason::loss: return fmt::format("loss {} is not finite", r.loss);
    case SkipReason::gradient: return fmt::format("gradient norm {} is not finite", r.grad_norm);
    case SkipReason::norm: return fmt::format("gradient norm {:.4g} is beyond {:.4g}", r.grad_norm, r.norm_limit);
    case SkipReason::none: break;
  }
  return "";
}

// The lines of the steps that are made again would be lost otherwise.
void keep_metrics_aside(const fs::path& metrics, i64 rollback) {
  try {
    write_file_atomically(fmt::format("{}.rolled-back-{}", metrics.string(), rollback), read_file(metrics));
  } catch (const UserError& e) {
    log_error("{}; the metrics of the steps that are made again are lost", e.what());
  }
}

}  // namespace

// Of each block, over all ranks.
std::vector<GateExtremes> Trainer::block_gates() {
  return gather_gates(state_.model.gate_extremes(ctx_, state_.saved), ranks_);
}

// How the run ends, if it does; it may have gone back to an earlier step.
std::optional<RunOutcome> Trainer::after_skip(const StepRecord& record, i64 scored) {
  if (log_)
    log_warning("step {}: {}; the update is skipped ({} in a row, {} allowed)", at_.step, what_was_wrong(record),
                at_.guard.skipped_in_row, cfg_.guard.max_skips);
  if (cfg_.guard.keep > 0) keep_evidence(record, scored);
  if (!gives_up_on_row(cfg_.guard, at_.guard)) return std::nullopt;
  if (!may_roll_back(cfg_.guard, at_.guard)) return give_up();
  roll_back();
  return std::nullopt;
}

Anomaly Trainer::evidence(const StepRecord& record, i64 scored) {
  const i64 accepted = at_.step - at_.guard.skipped_in_row;  // step of the update that made these weights
  return {.step = at_.step,
          .update = at_.updates + 1,
          .reason = record.skipped,
          .loss = record.loss,
          .grad_norm = record.grad_norm,
          .norm_limit = record.norm_limit,
          .lr = record.lr,
          .scored = scored,
          .rollbacks = at_.guard.rollbacks(),
          .weights = name_in_timeline(accepted, at_.guard.rollbacks()),
          .norms = gradient_norms(ctx_, state_, ranks_),
          .gates = block_gates(),
          .computed_on = machine_.kind(),
          .ranks = ranks_.size(),
          .config = write_config(cfg_),
          .data = train_data_.fingerprint(),
          .tokenizer = train_data_.tokenizer_sha256(),
          .batch = gather_batch(batch_, ranks_)};
}

// A disk that is full loses the evidence, and nothing else. A run that is resumed makes the same evidence again.
void Trainer::keep_evidence(const StepRecord& record, i64 scored) {
  const Anomaly anomaly = evidence(record, scored);
  try {
    write_weights_of(anomaly);
    ranks_.together("evidence", [&] {
      if (ranks_.first()) write_evidence(anomaly);
    });
  } catch (const UserError& e) {
    if (log_) log_error("step {}: evidence is missing: {}; training goes on", at_.step, e.what());
  }
}

// Once for all that are skipped in a row.
void Trainer::write_weights_of(const Anomaly& anomaly) {
  const fs::path folder = path_ / "anomalies/weights" / anomaly.weights, aside = folder.string() + ".tmp-write";
  char there = 0;
  ranks_.together("evidence", [&] {
    std::error_code none;
    if (!ranks_.first()) return;
    there = fs::exists(folder, none) ? 1 : 0;
    if (there != 0) return;
    remove_tree(aside);
    make_directory(aside);
  });
  std::vector<char> all(static_cast<std::size_t>(ranks_.size()));
  ranks_.gather_bytes("evidence", &there, all.data(), 1);
  if (all[0] != 0) return;
  CheckpointContent weights = content();
  weights.step = at_.step - at_.guard.skipped_in_row;
  weights.optimizer.clear();
  std::erase_if(weights.pieces, [](const TensorPiece& p) { return p.of == TensorPiece::Of::optimizer; });
  try {
    writer_.save_aside(aside, weights);
    ranks_.together("evidence", [&] {
      if (ranks_.first()) rename_path(aside, folder);
    });
  } catch (const UserError&) {
    std::error_code ignored;  // the first error is the one to tell
    if (ranks_.first()) fs::remove_all(aside, ignored);
    throw;
  }
}

void Trainer::write_evidence(const Anomaly& anomaly) {
  const fs::path folder = path_ / "anomalies" / anomaly.name(), aside = folder.string() + ".tmp-write";
  const fs::path model = train_data_.tokenizer_path();
  std::optional<Tokenizer> tokenizer;
  if (Tokenizer::is_model(model)) tokenizer.emplace(Tokenizer::load(model));
  try {
    remove_tree(aside);
    make_directory(aside);
    write_anomaly(aside, anomaly, tokenizer ? &*tokenizer : nullptr);
    remove_tree(folder);
    rename_path(aside, folder);
    rotate_anomalies(path_ / "anomalies", cfg_.guard.keep);
  } catch (const UserError&) {
    std::error_code ignored;
    fs::remove_all(aside, ignored);
    throw;
  }
  log_info("step {:>6}  evidence in {}", at_.step, folder.string());
}

// Weights, moments and the guard's window are those of the checkpoint again; the data go on behind what was seen.
void Trainer::roll_back() {
  step_.settle();
  writer_.wait();
  report_save();
  loader_.reset();
  const Progression before = at_;
  const std::string where = go_back_to(before.guard.good_step);
  const i64 unused = before.guard.left_out.empty() ? 0 : before.guard.left_out.back().end;
  const SequenceRange range{std::max(at_.next_sequence, unused), before.next_sequence};
  at_.next_sequence = range.end;
  at_.guard.rollbacks_in_row = before.guard.rollbacks_in_row + 1;
  at_.guard.left_out = before.guard.left_out;
  at_.guard.left_out.push_back(range);
  remember_weights();
  loader_ = open_train_loader();
  ranks_.together("roll-back", [&] {
    if (!dir_) return;
    remove_checkpoints_after(path_ / "checkpoints", at_.step);
    log_->finish(
        fmt::format("step {}: {} updates in a row were skipped; back to {}, and on behind sequence {} "
                    "(roll-back {} of {})",
                    before.step, before.guard.skipped_in_row, where, range.end, at_.guard.rollbacks_in_row,
                    cfg_.guard.max_rollbacks));
    log_.reset();
    keep_metrics_aside(dir_->metrics(), at_.guard.rollbacks());
    open_log();
    log_->rollback(before.step, range);
  });
}

// Returns what it is, for a line of the log.
std::string Trainer::go_back_to(i64 good_step) {
  if (const auto loaded = load(good_step)) {  // of step 0: weights from elsewhere
    if (loaded->step < good_step && ranks_.first())
      log_warning("the checkpoint of step {} is not there; without it, other bits follow", good_step);
    return loaded->folder.string();
  }
  if (good_step > 0)
    throw SharedError(fmt::format("{}: no checkpoint up to step {} is left to go back to", path_.string(), good_step));
  state_.initialise(ctx_, static_cast<std::uint64_t>(cfg_.run.seed));
  for (const Tensor& moment : {state_.optimizer.flat().m, state_.optimizer.flat().v}) ops::fill(ctx_, moment, 0);
  at_ = {};
  return "the beginning";
}

// Nothing is saved: the newest checkpoint is from before, or from within, the bad stretch.
RunOutcome Trainer::give_up() {
  step_.settle();
  writer_.wait();
  const std::string rollbacks =
      at_.guard.rollbacks_in_row > 0 ? fmt::format(", after {}", counted(at_.guard.rollbacks_in_row, "roll-back")) : "";
  const fs::path evidence = path_ / "anomalies" / name_in_timeline(at_.step, at_.guard.rollbacks());
  end_log(
      fmt::format("stopped at step {}: {} updates in a row were skipped{}; lower optimizer.lr, or look at the data{}",
                  at_.step, at_.guard.skipped_in_row, rollbacks,
                  cfg_.guard.keep > 0 ? fmt::format(" (xlstm replay {})", evidence.string()) : ""));
  return RunOutcome::diverged;
}

}  // namespace xlstm
