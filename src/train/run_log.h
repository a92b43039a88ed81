#pragma once
// What a run says: one JSON object per step in metrics.jsonl, and lines or a bar on the console.
#include <map>
#include <memory>

#include "core/file.h"
#include "core/json.h"
#include "core/log.h"
#include "model/language_model.h"
#include "train/event_file.h"
#include "train/guard.h"
#include "train/step_profile.h"

namespace xlstm {

struct SetTokens {
  std::string set;
  i64 tokens = 0;
};

struct StepRecord {
  i64 step = 0, tokens = 0;                // tokens: seen so far
  std::vector<SetTokens> tokens_by_set{};  // of a mixture
  double loss = 0, grad_norm = 0, lr = 0;
  double tokens_per_second = 0;
  double mfu = 0;      // achieved FLOPs over the measured peak of matrix products
  double seconds = 0;  // of this step
  double data_wait = 0;
  std::vector<StepProfile::Row> classes{};  // with log.profile
  SkipReason skipped = SkipReason::none;
  double norm_limit = 0;  // may be infinite
  GateExtremes gates{};
};

// Where a run comes back to, and for good.
struct LogStart {
  i64 step = 0;
  i64 rollbacks = 0;           // before it
  std::string deciding_set{};  // whose loss says which checkpoint is best
};

struct SetLoss {
  std::string set;  // "validation", or a name of eval.sets
  double loss = 0;  // nats per token
  i64 tokens = 0;   // scored
};

class RunLog {
 public:
  // Lines of metrics.jsonl beyond `start`, and a half-written last one, are dropped: those steps come again.
  // When other lines are no metrics, or the run begins anew, the whole file stays beside it under another name.
  RunLog(const fs::path& metrics, const LogStart& start, i64 steps, i64 console_every);

  void step(const StepRecord& record);
  void evaluation(i64 step, const std::vector<SetLoss>& losses);
  // The run went back from step `from` to the step that this log began at, and leaves those sequences out.
  void rollback(i64 from, const SequenceRange& left_out);
  void finish(const std::string& note);
  bool has_evaluation(i64 step) const { return evaluations_.contains(step); }
  // The deciding set's loss by step; NaN where it is not known.
  const std::map<i64, double>& evaluations() const { return evaluations_; }

 private:
  struct Kept {
    std::string lines;
    i64 damaged = 0, later = 0;  // lines that are none of ours, and beyond the step
  };
  Kept keep_lines(const std::string& text, const LogStart& start);
  std::string open_metrics(const fs::path& metrics, const LogStart& start);
  void write(const Json& line);

  std::unique_ptr<OutputFile> file_;
  bool broken_ = false;  // the last line could not be written
  i64 steps_, console_every_;
  Timer timer_, line_timer_;
  i64 first_step_, line_step_;  // of this process; of the last line on the console
  std::string deciding_set_;
  std::map<i64, double> evaluations_;
  fs::path run_;
  EventFile events_;  // for TensorBoard
  Timer since_report_;
  std::unique_ptr<Progress> bar_;
};

}  // namespace xlstm
