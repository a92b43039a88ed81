#include "train/model_import.h"

#include "core/hash.h"
#include "core/memory.h"
#include "model/language_model.h"
#include "train/checkpoint_store.h"
#include "train/run_data.h"
#include "train/weight_files.h"

namespace xlstm {

namespace {

// What a folder says of its model.
struct Source {
  TrainConfig config;
  bool hf = false;
};

Source read_source(const fs::path& folder) {
  std::error_code ignored;
  Source s;
  if (const fs::path json = folder / "config.json"; fs::exists(json, ignored)) {
    s.hf = true;
    s.config.model = model_of_hf_config(read_json(json), json);
  } else if (const fs::path yaml = folder / "config.yaml"; fs::exists(yaml, ignored)) {
    s.config = load_train_config(yaml.string(), {});
  } else {
    throw user_error("{}: expected config.json (Hugging Face) or config.yaml (xlstm checkpoint export), found neither",
                     folder.string());
  }
  s.config.resolve();
  return s;
}

// The keys of a model that its weights do not depend on: those of the run that is to come.
ModelConfig with_free_keys_of(ModelConfig model, const ModelConfig& from) {
  model.mixer.chunk_size = from.mixer.chunk_size;
  model.mixer.igate_bias_init = from.mixer.igate_bias_init;
  model.mixer.fgate_bias_init = from.mixer.fgate_bias_init;
  if (model.qk_dim() == from.qk_dim()) model.mixer.qk_dim_factor = from.mixer.qk_dim_factor;
  if (model.v_dim() == from.v_dim()) model.mixer.v_dim_factor = from.mixer.v_dim_factor;
  if (model.ffn_dim() == from.ffn_dim()) model.ffn = from.ffn;
  return model;
}

void check_same_model(const fs::path& folder, const TrainConfig& source, const TrainConfig& training) {
  const ModelConfig model = with_free_keys_of(source.model, training.model);
  const auto there = ConfigTree::from_text(write_config(model), "model").values;
  for (const auto& [key, value] : ConfigTree::from_text(write_config(training.model), "config").values)
    if (there.at(key).text != value.text)
      throw user_error("model.{}: is {}, but {} holds a model with {}", key, value.text, folder.string(),
                       there.at(key).text);
}

// Weights, and where training is to go on the zeros that its optimizer begins with.
struct ImportedTensors {
  ImportedTensors(const ModelConfig& model, bool with_moments)
      : values(Arena::measuring("parameters")), grads(Arena::measuring("gradients")) {
    const auto build = [&] {
      grads = Arena::measuring("gradients");
      params = std::make_unique<ParamStore>(values, grads, DType::f32);
      const LanguageModel shapes(*params, model);
    };
    build();
    memory = Buffer(std::max<i64>(values.peak(), 1));
    values = Arena("parameters", memory.data(), values.peak());
    build();
    i64 largest = 1;
    for (const ParamInfo& info : params->all()) {
      named.push_back({info.name, info.master, info.is_matrix()});
      largest = std::max(largest, info.master.bytes());
    }
    if (!with_moments) return;
    zeros = Buffer(largest);
    for (const NamedTensor& p : named)
      for (const char* prefix : {"m.", "v."})
        moments.push_back(
            {prefix + p.name, make_tensor(zeros.data(), DType::f32, p.value.rows, p.value.cols), p.is_matrix});
  }

  Arena values, grads;
  Buffer memory, zeros;
  std::unique_ptr<ParamStore> params;
  std::vector<NamedTensor> named, moments;
};

fs::path tokenizer_file(const fs::path& folder, const ImportOptions& o) {
  fs::path file = o.tokenizer.empty() ? folder / "tokenizer.model" : fs::path(o.tokenizer);
  if (std::error_code ignored; o.tokenizer.empty() && !fs::exists(file, ignored))
    throw user_error("{}: is not there; name the tokenizer's file with --tokenizer", file.string());
  return file;
}

Json fingerprints(const ImportOptions& o, const std::string& tokenizer_sha256) {
  Json prints{{"tokenizer", tokenizer_sha256}};
  if (!o.training) return prints;
  const Mixture data = open_training_data(*o.training);
  if (data.tokenizer_sha256() != tokenizer_sha256)
    throw user_error("{}: {} was built with tokenizer {:.12}, the model comes with {:.12}",
                     o.training->data.key_of_set(0), data.sets().front().data.folder().string(),
                     data.tokenizer_sha256(), tokenizer_sha256);
  return {{"data", data.fingerprint()}, {"tokenizer", tokenizer_sha256}};
}

void check_run(const fs::path& run) {
  std::error_code ignored;
  if (fs::exists(run, ignored) && !(fs::is_directory(run, ignored) && fs::is_empty(run, ignored)))
    throw user_error("--run {}: is there already; name a folder that is not", run.string());
}

}  // namespace

ImportResult import_model(const fs::path& folder, const ImportOptions& options) {
  check_run(options.run);
  const Source source = read_source(folder);
  if (options.training) check_same_model(folder, source.config, *options.training);
  const std::string tokenizer = read_file(tokenizer_file(folder, options));
  ImportResult result{.checkpoint = options.run / "checkpoints",
                      .config = options.training ? *options.training : source.config};
  result.config.data = options.training ? options.training->data : DataConfig{};
  const Json prints = fingerprints(options, sha256_hex(tokenizer));

  WeightFiles files(folder);
  ImportedTensors tensors(result.config.model, options.training.has_value());
  for (const NamedTensor& t : tensors.named) files.read(t.value, source.hf ? hf_name(t.name) : t.name);
  files.expect_all_read();

  const Json state{{"updates", 0},
                   {"skipped_in_row", 0},
                   {"next_sequence", 0},
                   {"tokens", 0},
                   {"config", write_config(result.config)},
                   {"fingerprints", prints}};
  try {
    make_directory(result.checkpoint);
    const CheckpointContent content{.params = tensors.named, .optimizer = tensors.moments, .state = state};
    save_checkpoint(result.checkpoint, content, Rotation{});
    write_file_atomically(options.run / "tokenizer.model", tokenizer);
  } catch (...) {
    std::error_code ignored;
    fs::remove_all(options.run, ignored);
    throw;
  }
  result.parameters = tensors.params->count();
  result.weights_sha256 = weights_sha256(tensors.named);
  return result;
}

}  // namespace xlstm
