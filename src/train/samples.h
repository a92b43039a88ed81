#pragma once
// Texts that a run draws at each evaluation, in samples.jsonl: one JSON object per prompt.
#include "core/json.h"
#include "train/config.h"
#include "train/generate.h"

namespace xlstm {

struct Sample {
  i64 step = 0;
  std::string prompt, text;  // text: what the model went on with
};

// The most that eval.prompts can need on the rank that draws: a token stands for a byte at least. `dry` computes
// nothing.
i64 sampling_bytes(const TrainConfig& cfg, const LanguageModel& model, Context dry);

// Goes on from eval.prompts with the weights of a run. All memory is allocated once; nothing of the run's is written.
class Sampling {
 public:
  // UserError when there is no tokenizer to read the prompts with.
  Sampling(const TrainConfig& cfg, const ModelInUse& model, const fs::path& tokenizer);

  // The same texts for the same weights: random numbers are keyed by (run.seed, step), prompt and position.
  std::vector<Sample> draw(i64 step);
  i64 bytes() const { return generator_.bytes(); }  // allocated

 private:
  std::vector<std::string> prompts_;
  std::uint64_t seed_;
  Tokenizer tokenizer_;
  Generator generator_;
};

class SampleLog {
 public:
  // Samples of evaluations that are still to come, or come again, are dropped.
  SampleLog(fs::path file, const std::function<bool(i64 step)>& is_evaluated);
  void write(const std::vector<Sample>& samples);  // a disk that is full loses them, and nothing else

 private:
  fs::path file_;
};

// Those of the last evaluation; lines that are none are left out. Nothing without the file.
std::vector<Sample> read_last_samples(const fs::path& file);

}  // namespace xlstm
