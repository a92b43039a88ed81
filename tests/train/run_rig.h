#pragma once
// A data set of a few thousand tokens and a model of a few thousand weights: whole runs in milliseconds.
#include <gmock/gmock.h>
#include <unistd.h>

#include <cmath>
#include <sstream>

#include "data/dataset_builder.h"
#include "model/init.h"
#include "tests/data/support.h"
#include "train/trainer.h"

namespace xlstm {

// Built once: sample documents, train and validation.
inline const fs::path& tiny_dataset() {
  static const TempDir dir;
  static const fs::path built = [] {
    std::string all;
    for (const std::string& document : sample_documents(400)) all += Json{{"text", document}}.dump() + "\n";
    write_text(dir / "text.jsonl", all);
    build_dataset({.inputs = {(dir / "text.jsonl").string()},
                   .tokenizer = sample_tokenizer_path(),
                   .out = dir / "data",
                   .validation_fraction = 0.1});
    return dir / "data";
  }();
  return built;
}

inline TrainConfig tiny_run() {
  TrainConfig cfg;
  cfg.model = {.vocab_size = sample_tokenizer().vocab_size(), .embedding_dim = 32, .num_blocks = 2};
  cfg.model.mixer = {.num_heads = 2, .chunk_size = 8};
  cfg.data = {.train = tiny_dataset().string(), .validation = tiny_dataset().string()};
  cfg.train = {.steps = 12, .batch_size = 8, .micro_batch_size = 2, .context_length = 24};
  cfg.optimizer.lr = 3e-3;
  cfg.schedule = {.type = ScheduleType::cosine, .warmup_steps = 2};
  cfg.checkpoint = {.every = 4, .keep = 3};
  cfg.eval = {.every = 5, .batches = 2};
  cfg.log.every = 1000;
  return cfg;
}

inline RunOutcome run_in(const fs::path& dir, TrainConfig cfg, std::optional<i64> stop_at = std::nullopt) {
  cfg.resolve();
  return Trainer(dir, cfg, {"test"}).run(stop_at);
}

inline std::string final_weights(const fs::path& dir) { return open_newest_checkpoint(dir).weights_sha256(); }

// One number of every step's line of metrics.jsonl.
inline std::vector<double> metric(const fs::path& dir, const char* key) {
  std::vector<double> out;
  std::istringstream lines(read_file(dir / "metrics.jsonl"));
  for (std::string line; std::getline(lines, line);)
    if (const Json j = Json::parse(line, nullptr, false); j.is_object() && j.contains(key))
      out.push_back(j.at(key).is_null() ? NAN : j.at(key).get<double>());
  return out;
}

}  // namespace xlstm
