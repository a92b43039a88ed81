#pragma once
// The memory of a training run. The same constructor runs twice: on measuring arenas, which is what `xlstm plan`
// prints, and on real ones of exactly that size, which is what a run allocates. Nothing is allocated after that.
#include <array>
#include <memory>
#include <vector>

#include "core/memory.h"
#include "core/params.h"
#include "dist/sharding.h"
#include "kernels/packed_weights.h"
#include "model/language_model.h"
#include "train/checkpoint.h"
#include "train/config.h"

namespace xlstm {

struct ArenaSize {
  std::string name;
  i64 bytes = 0;
  Device device = Device::cpu;
  bool of_rank_0 = false;  // others have none of it
};

// Of a run on a processor besides its arenas and its threads' scratch memory: code, libraries, files that are read or
// written. Measured: 23 to 31 MiB (docs/architecture.md).
constexpr i64 kProgramBytes = i64{32} << 20;

// One set of arenas, measuring or real.
class TrainArenas {
 public:
  static constexpr std::size_t kCount = 11;  // sizes of a plan begin with these
  static TrainArenas measuring(Device device);
  // pin: host memory is locked for the GPU that it is copied from
  TrainArenas(const std::vector<ArenaSize>& sizes, Gpu* gpu, bool pin = true);

  std::vector<ArenaSize> sizes() const;  // the peaks so far

  Arena parameters, rounded, gradients, slots, exchange, optimizer, activations, recompute, scratch, tokens;
  Arena snapshot;  // host memory

 private:
  explicit TrainArenas(Device device);
  std::array<Arena*, kCount> all();
  std::array<const Arena*, kCount> all() const;
  std::vector<Buffer> buffers_;
};

// What lies in those arenas: what one rank of a run needs.
struct TrainState {
  TrainState(TrainArenas& arenas, const TrainConfig& cfg, Ranks ranks = {});

  // The parameters as they begin.
  void initialise(Context& ctx, std::uint64_t seed) const;
  // The copies that layers compute with, from the masters that are here: after these were set.
  void round_parameters(Context& ctx) const;

  // A piece of a parameter that layers compute with in f32 while the others are rounded: such ones travel apart.
  struct ExactPiece {
    Tensor value;    // (1, n), part of what the layer reads
    int rank;        // whose it is
    i64 at;          // its place in `exact_row`
    i64 in_masters;  // in `own_masters`; of this rank's alone
  };

  // All of the run. Of moments that other ranks have, names and shapes alone: then the values are in pieces().
  std::vector<NamedTensor> named_params() const;
  std::vector<NamedTensor> named_moments() const;  // "m.<parameter>", "v.<parameter>"
  // What of these belongs to this rank: every element to one rank.
  std::vector<TensorPiece> pieces() const;
  Tensor inverse_tokens() const { return scalar(UpdateScalar::inverse_tokens); }  // (1, 1), what losses are scaled by

  ParamStore params;
  LanguageModel model;
  PackedWeights packed;  // on a processor with AMX, in bf16
  RowShards shards;      // of the rows of parameters
  bool sharded;          // whether this rank has the moments of its pieces only
  Tensor own_masters;    // (1, shards.owned()): of a sharded run in bf16; otherwise the masters are with the parameters
  AdamW optimizer;
  Tensor all_gradients;                  // every gradient, as one row
  std::vector<Tensor> slot_partials;     // the same size; one per level of this rank's part of the reduction tree
  std::vector<ExactPiece> exact_pieces;  // with own_masters; in the order of ranks
  Tensor exact_row;                      // one behind the other
  std::vector<i64> exact_borders;        // between ranks
  std::array<Tensor, 2> received;        // (1, largest): pieces from other ranks, of two segments at a time
  LanguageModel::Saved saved;
  TokenRows batch;     // of one update, this rank's part
  Tensor losses;       // (rows of a micro-batch, 1)
  Tensor loss_sums;    // (micro-batches of all ranks, 1) f64
  Tensor square_sums;  // (blocks of all_gradients, 1) f64
  Tensor scalars;      // (1, kUpdateScalars) f64

 private:
  std::vector<Tensor> plan_slots(Arena& arena, const TrainConfig& cfg) const;
  std::vector<AdamW::Part> optimizer_parts() const;
  Tensor scalar(UpdateScalar which) const {
    return scalars.slice_cols(static_cast<i64>(which), static_cast<i64>(which) + 1);
  }
  void plan_exact(Arena& arena, const std::vector<i64>& parts);
};

// UserError when the work of an update cannot be shared by so many.
void check_ranks(const TrainConfig& cfg, int ranks);

// The memory bill of one rank without allocating any of it: its arenas exactly; of threads, the program, eval.prompts
// and NCCL at most what it says.
// `gpu`: the device itself, if it is there; a plan without it is for an H100.
std::vector<ArenaSize> measure_training(const TrainConfig& cfg, Device device, Gpu* gpu = nullptr, Ranks ranks = {});
i64 total_bytes(const std::vector<ArenaSize>& sizes);
i64 total_bytes(const std::vector<ArenaSize>& sizes, Device device);
// Of the memory of a host with so many ranks that need this, one of them the first of the run.
i64 host_bytes(const std::vector<ArenaSize>& sizes, int ranks);

}  // namespace xlstm
