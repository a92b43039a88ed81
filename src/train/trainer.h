#pragma once
// A run: owns everything, resumes by itself, trains, evaluates, saves, and ends in one of three ways. With several
// ranks each has one of these, and all do the same: what one of them learns (a signal, damaged data) is agreed upon
// when they meet, once per step.
#include <optional>

#include "train/anomaly.h"
#include "train/checkpoint_writer.h"
#include "train/guard.h"
#include "train/kept_algorithms.h"
#include "train/machine.h"
#include "train/memory.h"
#include "train/replica_check.h"
#include "train/run_data.h"
#include "train/run_directory.h"
#include "train/run_log.h"
#include "train/samples.h"
#include "train/step.h"
#include "train/step_profile.h"
#include "train/stop_signal.h"

namespace xlstm {

enum class RunOutcome { finished, stopped, diverged };  // exit codes 0, 75, 3

// What must survive a restart besides tensors. Everything in it is in every checkpoint.
struct Progression {
  i64 step = 0;           // updates asked for so far
  i64 updates = 0;        // updates applied: AdamW's t
  i64 next_sequence = 0;  // the loader's whole state
  GuardState guard{};
};

class Trainer {
 public:
  // `ranks`: the others of this run; without them it is a run of one.
  Trainer(const fs::path& run_dir, const TrainConfig& cfg, const std::vector<std::string>& command_line,
          Communicator* ranks = nullptr);

  // Trains to train.steps, to `stop_at`, or until a signal.
  RunOutcome run(std::optional<i64> stop_at);

  const std::vector<ArenaSize>& memory() const { return sizes_; }
  const TrainState& state() const { return state_; }
  const Progression& progression() const { return at_; }
  const StepProfile& profile() const { return profile_; }  // with log.profile

 private:
  // What the ranks know of the step before them.
  struct Meeting {
    i64 scored = 0;        // tokens of all parts of the batch
    std::string signal;    // that one of them has received, or ""
    bool damaged = false;  // one of them cannot read its part
    double norm_limit = 0, lr = 0;
  };

  std::string resume();
  std::optional<LoadedCheckpoint> load(i64 up_to_step);
  void check_resumed(const Json& state) const;
  CheckpointContent content() const;
  std::string next_batch();
  Meeting meet(const std::string& damage);
  std::vector<GateExtremes> block_gates();
  Anomaly evidence(const StepRecord& record, i64 scored);
  void write_evidence(const Anomaly& anomaly);
  void write_weights_of(const Anomaly& anomaly);
  RunOutcome give_up();
  StepRecord train_one(const Timer& timer, double waited, const Meeting& now);
  void keep_evidence(const StepRecord& record, i64 scored);
  std::optional<RunOutcome> after_skip(const StepRecord& record, i64 scored);
  void roll_back();
  std::string go_back_to(i64 good_step);
  std::vector<i64> pinned() const;
  void open_log();
  std::optional<i64> best_checkpoint() const;
  void data_ends(const std::string& damage);
  bool evaluate();
  void make_up_for_evaluation();
  bool evaluated() const;
  void save_for_good();
  void report_save();
  void tell_start(const std::string& resumed);
  void end_log(const std::string& note);
  RunOutcome stop(const std::string& why);
  RunOutcome stop_at_once(const std::string& why);
  void remember_weights();
  RunOutcome finish();
  std::unique_ptr<Loader> open_train_loader() const;
  std::vector<SetTokens> tokens_by_set() const;
  Ranks ranks_here() const { return {ranks_.rank(), ranks_.size()}; }

  StopSignal signals_;  // from the first moment: loading takes its time
  bool trained_ = false;
  std::unique_ptr<Communicator> alone_;
  Communicator& ranks_;
  TrainConfig cfg_;
  Mixture train_data_;
  std::vector<NamedSet> evaluation_sets_;  // the first of them decides which checkpoint is best
  Machine machine_;
  std::vector<ArenaSize> sizes_;
  fs::path path_;
  std::optional<RunDirectory> dir_;  // rank 0's
  double gemm_peak_;                 // of all ranks; measured before the arenas take the memory
  TrainArenas arenas_;
  Context ctx_;
  TrainState state_;
  std::unique_ptr<Communicator> device_ranks_;  // for what lies on a GPU
  TrainStep step_;
  CheckpointWriter writer_;
  std::optional<ReplicaCheck> replica_check_;  // with several ranks and parallel.check_interval
  Progression at_;
  std::unique_ptr<Loader> loader_;
  std::unique_ptr<RunLog> log_;       // rank 0's
  std::optional<Sampling> sampling_;  // rank 0's, with eval.prompts
  std::optional<SampleLog> sample_log_;
  double flops_per_token_;
  TokenBatch batch_;
  std::optional<KeptAlgorithms> gemm_algorithms_;
  StepProfile profile_;
};

}  // namespace xlstm
