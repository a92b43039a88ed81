#include "train/loaded_model.h"

#include "core/json.h"
#include "model/flops.h"
#include "train/checkpoint_store.h"

namespace xlstm {

LoadedModel::LoadedModel(const fs::path& path, std::optional<DeviceChoice> device, int ordinal) {
  const CheckpointReader newest = open_newest_checkpoint(path, Skipped::not_told);  // by the load below
  const std::string yaml = json_field<std::string>(newest.state(), "config", newest.folder() / "state.json");
  cfg_ = read_config<TrainConfig>(ConfigTree::from_text(yaml, (newest.folder() / "state.json").string()));
  cfg_.resolve();

  if (device) cfg_.run.device = *device;
  cfg_.run.cpu_isa = if_there(cfg_.run.cpu_isa);
  machine_ = Machine(cfg_.run, ordinal);

  weights_ = std::make_unique<Weights>(cfg_.model, cfg_.run, machine_.gpu());
  std::vector<NamedTensor> named;
  for (const ParamInfo& info : weights_->params().all()) named.push_back({info.name, info.master});
  Arena measured = Arena::measuring("staging");
  const HostTwins measured_twins(named, measured);
  const Buffer staging(std::max<i64>(measured.peak(), 1));
  Arena host("staging", staging.data(), staging.bytes());
  const HostTwins twins(named, host);
  const auto loaded = load_newest_checkpoint(path, {.params = twins.host(), .with_optimizer = false});
  XL_CHECK(loaded.has_value(), "the checkpoint at {} is gone", path.string());
  Context ctx = machine_.context(host);
  twins.upload(ctx);
  weights_->round(ctx);
  step_ = loaded->step;
  folder_ = loaded->folder;
  weights_sha256_ = loaded->weights_sha256;
  tokenizer_sha256_ = loaded->state.value("fingerprints", Json::object()).value("tokenizer", "");
}

Context LoadedModel::context(Arena& scratch) const {
  Context ctx = machine_.context(scratch);
  ctx.packed = packed();
  return ctx;
}

fs::path LoadedModel::tokenizer_path() const {
  return fs::absolute(folder_).lexically_normal().parent_path().parent_path() / "tokenizer.model";
}

}  // namespace xlstm
