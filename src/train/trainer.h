#pragma once
// A run: owns everything, resumes by itself, trains, evaluates, saves, and ends in one of three ways.
#include <optional>

#include "data/dataset.h"
#include "data/loader.h"
#include "train/checkpoint_writer.h"
#include "train/kept_algorithms.h"
#include "train/machine.h"
#include "train/memory.h"
#include "train/run_directory.h"
#include "train/run_log.h"
#include "train/step.h"
#include "train/stop_signal.h"

namespace xlstm {

enum class RunOutcome { finished, stopped, diverged };  // exit codes 0, 75, 3

// What must survive a restart besides tensors. Everything in it is in every checkpoint.
struct Progression {
  i64 step = 0;            // updates asked for so far
  i64 updates = 0;         // updates applied: AdamW's t
  i64 skipped_in_row = 0;  // the guard's state
  i64 next_sequence = 0;   // the loader's whole state
};

class Trainer {
 public:
  Trainer(const fs::path& run_dir, const TrainConfig& cfg, const std::vector<std::string>& command_line);

  // Trains to train.steps, to `stop_at`, or until a signal.
  RunOutcome run(std::optional<i64> stop_at);

  const std::vector<ArenaSize>& memory() const { return sizes_; }
  const TrainState& state() const { return state_; }
  const Progression& progression() const { return at_; }

 private:
  std::string resume();
  void check_resumed(const Json& state) const;
  CheckpointContent content() const;
  void next_batch();
  StepRecord train_one();
  void evaluate();
  void make_up_for_evaluation();
  void save_for_good();
  void report_save();
  RunOutcome stop(const std::string& why);
  RunOutcome give_up();
  RunOutcome finish();
  std::unique_ptr<Loader> open_train_loader() const;

  StopSignal signals_;  // from the first moment: loading takes its time
  TrainConfig cfg_;
  Dataset train_data_;
  std::optional<Dataset> validation_data_;
  Machine machine_;
  std::vector<ArenaSize> sizes_;
  RunDirectory dir_;
  double gemm_peak_;  // measured before the arenas take the memory
  TrainArenas arenas_;
  Context ctx_;
  TrainState state_;
  TrainStep step_;
  CheckpointWriter writer_;
  Progression at_;
  std::unique_ptr<Loader> loader_;
  std::unique_ptr<RunLog> log_;
  double flops_per_token_;
  TokenBatch batch_;
  std::optional<KeptAlgorithms> gemm_algorithms_;
};

}  // namespace xlstm
