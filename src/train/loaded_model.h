#pragma once
// A trained model without its optimizer, for evaluation and generation.
#include <memory>
#include <optional>

#include "train/machine.h"
#include "train/memory.h"
#include "train/weights.h"

namespace xlstm {

class LoadedModel {
 public:
  // `path`: a run directory, its checkpoints folder or one checkpoint; the newest whole one is taken.
  // On the device that the run's config asks for, or `device`.
  explicit LoadedModel(const fs::path& path, std::optional<DeviceChoice> device = std::nullopt, int ordinal = 0);
  LoadedModel(const LoadedModel&) = delete;
  LoadedModel& operator=(const LoadedModel&) = delete;

  const Machine& machine() const { return machine_; }
  PackedWeights* packed() const { return &weights_->packed(); }
  Context context(Arena& scratch) const;  // of that machine, with those
  DType activation_type() const { return xlstm::activation_type(cfg_.run); }
  const TrainConfig& config() const { return cfg_; }
  const LanguageModel& model() const { return weights_->model(); }
  i64 step() const { return step_; }
  const fs::path& folder() const { return folder_; }
  const std::string& weights_sha256() const { return weights_sha256_; }
  const std::string& tokenizer_sha256() const { return tokenizer_sha256_; }
  fs::path tokenizer_path() const;  // of the run that the checkpoint belongs to

 private:
  TrainConfig cfg_;
  Machine machine_;
  std::unique_ptr<Weights> weights_;
  i64 step_ = 0;
  fs::path folder_;
  std::string weights_sha256_, tokenizer_sha256_;
};

// One buffer that holds what `plan` allocates: plan(arena) runs on a measuring arena first, then on the real one.
template <class Plan>
auto allocate_planned(Buffer& buffer, const char* name, Gpu* gpu, Plan&& plan) {
  Arena measure = Arena::measuring(name, gpu ? Device::cuda : Device::cpu);
  plan(measure);
  buffer = Buffer(std::max<i64>(measure.peak(), 1), gpu);
  Arena real(name, buffer.data(), measure.peak(), buffer.device());
  return plan(real);
}

}  // namespace xlstm
