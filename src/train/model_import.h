#pragma once
// Weights of other programs, and of `checkpoint export`, as the first checkpoint of a run (formats: docs/formats.md).
#include <optional>

#include "train/config.h"
#include "train/hf_config.h"

namespace xlstm {

struct ImportOptions {
  fs::path run;                         // absent, or an empty folder
  std::string tokenizer;                // a file; empty: tokenizer.model of the folder, which must be there then
  std::optional<TrainConfig> training;  // of the run that goes on from these weights: its data set must be there
};

struct ImportResult {
  fs::path checkpoint;
  TrainConfig config;
  i64 parameters = 0;
  std::string weights_sha256;
};

// `folder` holds config.json (the `xlstm` layout of Hugging Face) or config.yaml (our export), and model.safetensors or
// its parts with model.safetensors.index.json, in f32, bf16 or f64. Makes the run's folder with a checkpoint of step 0;
// with `training` it has the moments of a fresh optimizer, and `xlstm train` begins from it. UserError that names file
// and tensor where one is missing, unknown, of another shape, damaged or not finite; nothing is made then.
ImportResult import_model(const fs::path& folder, const ImportOptions& options);

}  // namespace xlstm
