#pragma once
// The memory of a training run. The same constructor runs twice: on measuring arenas, which is what `xlstm plan`
// prints, and on real ones of exactly that size, which is what a run allocates. Nothing is allocated after that.
#include <array>
#include <memory>
#include <vector>

#include "core/memory.h"
#include "core/params.h"
#include "model/language_model.h"
#include "train/config.h"
#include "train/safetensors.h"

namespace xlstm {

struct ArenaSize {
  std::string name;
  i64 bytes = 0;
  Device device = Device::cpu;
};

// One set of arenas, measuring or real.
class TrainArenas {
 public:
  static TrainArenas measuring(Device device);
  TrainArenas(const std::vector<ArenaSize>& sizes, Gpu* gpu);

  std::vector<ArenaSize> sizes() const;  // the peaks so far

  Arena parameters, rounded, gradients, slots, optimizer, activations, recompute, scratch, tokens;
  Arena snapshot;  // host memory

 private:
  explicit TrainArenas(Device device);
  std::array<Arena*, 10> all();
  std::array<const Arena*, 10> all() const;
  std::vector<Buffer> buffers_;
};

// What lies in those arenas.
struct TrainState {
  TrainState(TrainArenas& arenas, const TrainConfig& cfg);

  // The copies that layers compute with, from the parameters: after these were set.
  void round_parameters(Context& ctx) const;

  std::vector<NamedTensor> named_params() const;
  std::vector<NamedTensor> named_moments() const;  // "m.<parameter>", "v.<parameter>"

  ParamStore params;
  LanguageModel model;
  AdamW optimizer;
  Tensor all_gradients;               // every gradient, as one row
  std::vector<Tensor> slot_partials;  // the same size; one per level of the reduction tree
  LanguageModel::Saved saved;
  TokenRows batch;     // of one update
  Tensor losses;       // (rows of a micro-batch, 1)
  Tensor loss_sums;    // (micro-batches, 1) f64
  Tensor square_sums;  // (blocks of all_gradients, 1) f64
  Tensor scalars;      // (1, kUpdateScalars) f64

 private:
  static std::vector<Tensor> plan_slots(Arena& arena, const TrainConfig& cfg, i64 elements);
};

// The exact memory bill, without allocating any of it.
// `gpu`: the device itself, if it is there; a plan without it is for an H100.
std::vector<ArenaSize> measure_training(const TrainConfig& cfg, Device device, Gpu* gpu = nullptr);
i64 total_bytes(const std::vector<ArenaSize>& sizes);
i64 total_bytes(const std::vector<ArenaSize>& sizes, Device device);

}  // namespace xlstm
