// What a run does at an evaluation: losses, samples, and which checkpoint is best.
#include <cmath>

#include "train/evaluate.h"
#include "train/trainer.h"

namespace xlstm {

// False when a signal ended it. The same on all ranks, as everything that they do next depends on it.
bool Trainer::evaluate() {
  if (evaluation_sets_.empty()) return true;
  step_.settle();
  const ForwardPass pass{ctx_, state_.model, state_.saved, state_.batch.sequences(0, cfg_.train.micro_batch_size),
                         state_.losses};
  std::vector<SetLoss> losses;
  for (const NamedSet& set : evaluation_sets_) try {
      const auto e = xlstm::evaluate(pass, set.data,
                                     {.windows = cfg_.eval.batches * cfg_.train.micro_batch_size,
                                      .stop = [] { return StopSignal::received() != nullptr; },
                                      .ranks = &ranks_});
      if (!e) return false;
      losses.push_back({set.name, e->loss, e->tokens});
    } catch (const UserError& e) {
      if (log_) log_error("step {}: no {} loss: {}; training goes on", at_.step, set.name, e.what());
    }
  if (log_ && !losses.empty()) {
    if (sampling_) sample_log_->write(sampling_->draw(at_.step));
    log_->evaluation(at_.step, losses);
  }
  if (gemm_algorithms_) gemm_algorithms_->keep();
  return true;
}

// A signal may have ended the one of this step.
void Trainer::make_up_for_evaluation() {
  if (!evaluated()) evaluate();
}

// As rank 0, who has the log, knows.
bool Trainer::evaluated() const {
  const char mine = log_ && log_->has_evaluation(at_.step) ? 1 : 0;
  std::vector<char> all(static_cast<std::size_t>(ranks_.size()));
  ranks_.gather_bytes("evaluation", &mine, all.data(), 1);
  return all[0] != 0;
}

// Of the checkpoints whose step was evaluated, the one being made included: the first with the least loss. Known to
// rank 0 alone, which rotates; no bit of the run depends on it.
std::optional<i64> Trainer::best_checkpoint() const {
  std::optional<i64> best;
  if (!log_) return best;
  double least = INFINITY;
  for (const auto& [step, loss] : log_->evaluations())
    if (loss < least && (step == at_.step || has_checkpoint(path_ / "checkpoints", step))) {
      least = loss;
      best = step;
    }
  return best;
}

void Trainer::open_log() {
  const LogStart start{.step = at_.step,
                       .rollbacks = at_.guard.rollbacks(),
                       .deciding_set = evaluation_sets_.empty() ? "" : evaluation_sets_.front().name};
  log_ = std::make_unique<RunLog>(dir_->metrics(), start, std::max(cfg_.train.steps, at_.step), cfg_.log.every);
  sample_log_.emplace(path_ / "samples.jsonl", [this](i64 step) { return log_->has_evaluation(step); });
}

}  // namespace xlstm
