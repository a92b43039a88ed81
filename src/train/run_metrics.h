#pragma once
// metrics.jsonl read again, for comparisons and reports (fields: docs/run_directory.md). Runs that still train can be
// read, too.
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/json.h"

namespace xlstm {

struct StepMetrics {
  i64 step = 0, tokens = 0;
  double loss = 0, grad_norm = 0, lr = 0;  // NaN where it was not finite
  double tokens_per_second = 0, mfu = 0, seconds = 0, data_wait = 0;
  double input_gate_max = 0, input_gate_min = 0, forget_gate_max = 0, forget_gate_min = 0;  // NaN where not written
  std::map<std::string, double> class_seconds{};  // by operator class, of a run with log.profile
  bool applied = true;
};

struct EvaluationMetrics {
  i64 step = 0, tokens = 0;  // tokens: seen in training so far
  double seconds = 0;        // of training so far, without evaluations and saves
  double loss = 0;           // nats per token
  i64 scored = 0;            // tokens that it is the mean over
};

// Of a set of eval.sets.
struct SetMetrics {
  i64 step = 0, tokens = 0;  // tokens: seen in training so far
  double loss = 0;
};

struct RollbackMetrics {
  i64 from = 0, to = 0;  // steps
};

struct RunMetrics {
  std::vector<StepMetrics> steps;  // ascending
  std::vector<EvaluationMetrics> evaluations;
  std::map<std::string, std::vector<SetMetrics>> sets;  // by name
  std::vector<RollbackMetrics> rollbacks;
  i64 damaged_lines = 0;  // half-written, or none of this program's: left out

  // UserError when there is no such file.
  static RunMetrics read(const fs::path& file);

  double seconds() const;                // of all steps
  i64 skipped() const;                   // updates
  double tokens_per_second() const;      // median over the steps
  double largest_gate() const;           // pre-activation of an input gate; NaN when none was written
  double training_loss(i64 step) const;  // mean over the last twentieth of the steps up to this one

  // Validation loss at so many seconds of training, between the evaluations around it; none before the first.
  std::optional<double> validation_at_seconds(double seconds) const;
  std::optional<double> validation_at_step(i64 step) const;
};

// Whether a line of metrics.jsonl is an evaluation: it has the loss of some set.
bool is_evaluation(const Json& line);

}  // namespace xlstm
