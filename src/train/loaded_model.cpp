#include "train/loaded_model.h"

#include "core/json.h"
#include "core/log.h"
#include "model/flops.h"
#include "train/checkpoint_store.h"

namespace xlstm {

LoadedModel::LoadedModel(const fs::path& path)
    : values_(Arena::measuring("parameters")), no_grads_(Arena::measuring("gradients")) {
  const CheckpointReader newest = open_newest_checkpoint(path);
  const std::string yaml = json_field<std::string>(newest.state(), "config", newest.folder() / "state.json");
  cfg_ = read_config<TrainConfig>(ConfigTree::from_text(yaml, (newest.folder() / "state.json").string()));
  cfg_.resolve();

  {
    ParamStore measured(values_, no_grads_, DType::f32);
    const LanguageModel dry(measured, cfg_.model);
  }
  memory_ = Buffer(values_.peak());
  values_ = Arena("parameters", memory_.data(), memory_.bytes());
  no_grads_ = Arena::measuring("gradients");
  params_ = std::make_unique<ParamStore>(values_, no_grads_, DType::f32);
  model_ = std::make_unique<LanguageModel>(*params_, cfg_.model);

  LoadTarget target{.with_optimizer = false};
  for (const ParamInfo& info : params_->all()) target.params.push_back({info.name, info.param.value});
  const auto loaded = load_newest_checkpoint(path, target);
  XL_CHECK(loaded.has_value(), "the checkpoint at {} is gone", path.string());
  step_ = loaded->step;
  folder_ = loaded->folder;
  tokenizer_sha256_ = loaded->state.value("fingerprints", Json::object()).value("tokenizer", "");
  log_info("{}: step {}", folder_.string(), step_);
}

fs::path LoadedModel::tokenizer_path() const {
  return fs::absolute(folder_).lexically_normal().parent_path().parent_path() / "tokenizer.model";
}

}  // namespace xlstm
