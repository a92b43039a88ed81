#pragma once
// An experiment with several arms: which runs it has, and what they come to, side by side. It trains nothing.
#include <optional>

#include "core/json.h"
#include "train/run_metrics.h"

namespace xlstm {

// "model.mixer.input_gate=exp,sigmoid"
struct Variation {
  std::string key;
  std::vector<std::string> values;
};
Variation parse_variation(const std::string& text);  // UserError naming --vary

struct Arm {
  std::string name;                      // "input_gate=exp num_heads=4": for people
  std::vector<std::string> assignments;  // "model.mixer.input_gate=exp", ...
};

// Every combination of the values, the last variation running fastest. UserError where a key stands twice, or would
// give the arms different data: the same tokens in the same order are what makes them comparable.
std::vector<Arm> make_arms(const std::vector<Variation>& variations);

// One run of an arm, as far as it has come.
struct ArmRun {
  i64 seed = 0;
  RunMetrics metrics;
  bool finished = false, diverged = false;
};

// Mean over the seeds, and the sample standard deviation where there are two or more.
struct Spread {
  double mean = 0;
  std::optional<double> deviation;
};
std::optional<Spread> spread_of(const std::vector<double>& values);  // none when one is missing (NaN), or all are

struct ArmResult {
  std::string name;
  i64 seeds = 0, evaluated = 0, finished = 0, diverged = 0;      // runs; evaluated: at least once, and in what follows
  std::optional<Spread> loss, perplexity;                        // validation, at equal tokens
  std::optional<Spread> loss_difference, perplexity_difference;  // to the first arm, seed by seed; none of itself
  std::optional<Spread> training_loss;                           // at equal tokens
  std::optional<Spread> loss_at_seconds, perplexity_at_seconds;  // validation, at equal seconds
  std::optional<Spread> tokens_per_second, largest_gate;
  i64 peak_bytes = 0, skipped = 0;
};

struct Comparison {
  i64 step = 0, tokens = 0;  // of the last evaluation that all of them have: "equal tokens"
  double seconds = 0;        // of training that all of them have: "equal seconds"
  std::vector<ArmResult> arms;

  Json to_json() const;
  std::string table() const;  // as text, a row per arm
};

// `runs[a]`: those of arm a, in the order of the seeds. Runs without an evaluation count as not begun: the others are
// compared without them.
Comparison compare_runs(const std::vector<Arm>& arms, std::vector<std::vector<ArmRun>> runs,
                        const std::vector<i64>& peak_bytes);

}  // namespace xlstm
