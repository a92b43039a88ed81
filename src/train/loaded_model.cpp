#include "train/loaded_model.h"

#include "core/json.h"
#include "core/log.h"
#include "model/flops.h"
#include "train/checkpoint_store.h"

namespace xlstm {

LoadedModel::LoadedModel(const fs::path& path, std::optional<DeviceChoice> device)
    : values_(Arena::measuring("parameters")), no_grads_(Arena::measuring("gradients")) {
  const CheckpointReader newest = open_newest_checkpoint(path);
  const std::string yaml = json_field<std::string>(newest.state(), "config", newest.folder() / "state.json");
  cfg_ = read_config<TrainConfig>(ConfigTree::from_text(yaml, (newest.folder() / "state.json").string()));
  cfg_.resolve();

  if (device) cfg_.run.device = *device;
  machine_ = Machine(cfg_.run);

  {
    ParamStore measured(values_, no_grads_, DType::f32);
    const LanguageModel dry(measured, cfg_.model);
  }
  memory_ = Buffer(values_.peak(), machine_.gpu());
  values_ = Arena("parameters", memory_.data(), memory_.bytes(), memory_.device());
  no_grads_ = Arena::measuring("gradients");
  params_ = std::make_unique<ParamStore>(values_, no_grads_, DType::f32);
  model_ = std::make_unique<LanguageModel>(*params_, cfg_.model);

  std::vector<NamedTensor> named;
  for (const ParamInfo& info : params_->all()) named.push_back({info.name, info.param.value});
  const Buffer staging(machine_.gpu() ? memory_.bytes() : 1);
  Arena host("staging", staging.data(), staging.bytes());
  const HostTwins twins(named, host);
  const auto loaded = load_newest_checkpoint(path, {.params = twins.host(), .with_optimizer = false});
  XL_CHECK(loaded.has_value(), "the checkpoint at {} is gone", path.string());
  Context ctx = machine_.context(host);
  twins.upload(ctx);
  step_ = loaded->step;
  folder_ = loaded->folder;
  tokenizer_sha256_ = loaded->state.value("fingerprints", Json::object()).value("tokenizer", "");
  log_info("{}: step {}", folder_.string(), step_);
}

fs::path LoadedModel::tokenizer_path() const {
  return fs::absolute(folder_).lexically_normal().parent_path().parent_path() / "tokenizer.model";
}

}  // namespace xlstm
