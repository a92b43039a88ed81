#include "train/memory.h"

#include <algorithm>
#include <bit>

#include "core/log.h"
#include "core/parallel.h"
#include "core/text.h"
#include "dist/nccl.h"
#include "kernels/thread_scratch.h"
#include "model/init.h"
#include "train/checkpoint_writer.h"
#include "train/machine.h"
#include "train/samples.h"
#include "train/step.h"
#include "train/weights.h"

namespace xlstm {

namespace {

// Checkpoints are written from a copy, so that training waits only for the copy. What a rank writes is its pieces; but
// what it reads comes to a device by way of the same memory (train/load_state), and without shares that is everything.
void plan_snapshot(Arena& arena, const TrainState& state) {
  const bool reads_all = !state.sharded && state.all_gradients.device != Device::cpu;
  const bool all = state.shards.ranks().size == 1 || reads_all;
  const i64 bytes = snapshot_bytes({.params = state.named_params(),
                                    .optimizer = state.named_moments(),
                                    .pieces = all ? std::vector<TensorPiece>{} : state.pieces()});
  arena.alloc("snapshot", DType::i32, 1, (bytes + 3) / 4);
}

}  // namespace

TrainArenas::TrainArenas(Device device)
    : parameters(Arena::measuring("parameters", device)),
      rounded(Arena::measuring("bf16 weights", device)),
      gradients(Arena::measuring("gradients", device)),
      slots(Arena::measuring("gradient slots", device)),
      exchange(Arena::measuring("gradient exchange", device)),
      optimizer(Arena::measuring("optimizer moments", device)),
      activations(Arena::measuring("activations", device)),
      recompute(Arena::measuring("recomputed activations", device)),
      scratch(Arena::measuring("scratch", device)),
      tokens(Arena::measuring("tokens and losses", device)),
      snapshot(Arena::measuring("checkpoint snapshot")) {}

TrainArenas TrainArenas::measuring(Device device) { return TrainArenas(device); }

std::array<Arena*, TrainArenas::kCount> TrainArenas::all() {
  return {&parameters,  &rounded,   &gradients, &slots,  &exchange, &optimizer,
          &activations, &recompute, &scratch,   &tokens, &snapshot};
}

std::array<const Arena*, TrainArenas::kCount> TrainArenas::all() const {
  return {&parameters,  &rounded,   &gradients, &slots,  &exchange, &optimizer,
          &activations, &recompute, &scratch,   &tokens, &snapshot};
}

TrainArenas::TrainArenas(const std::vector<ArenaSize>& sizes, Gpu* gpu, bool pin)
    : TrainArenas(gpu ? Device::cuda : Device::cpu) {
  const auto arenas = all();
  for (std::size_t i = 0; i < arenas.size(); ++i) {
    // An empty arena still needs an address: without one it would be a measuring arena.
    const ArenaSize& size = sizes.at(i);
    buffers_.emplace_back(std::max<i64>(size.bytes, 1), size.device == Device::cuda ? gpu : nullptr);
    if (pin && gpu && size.device == Device::cpu && !buffers_.back().pin(*gpu))
      log_info("{} of host memory for the {} cannot be pinned: copies from the GPU take a detour",
               human_bytes(size.bytes), size.name);
    *arenas[i] = Arena(size.name, buffers_.back().data(), size.bytes, size.device);
  }
}

std::vector<ArenaSize> TrainArenas::sizes() const {
  std::vector<ArenaSize> out;
  for (const Arena* arena : all()) out.push_back({arena->name(), arena->peak(), arena->device()});
  return out;
}

namespace {

bool shares_optimizer(const TrainConfig& cfg, Ranks ranks) { return ranks.size > 1 && cfg.parallel.shard_optimizer; }

bool rounds(const TrainConfig& cfg) { return activation_type(cfg.run) == DType::bf16; }

}  // namespace

TrainState::TrainState(TrainArenas& arenas, const TrainConfig& cfg, Ranks ranks)
    : params(arenas.parameters, arenas.gradients, DType::f32, rounds(cfg) ? &arenas.rounded : nullptr,
             rounds(cfg) && shares_optimizer(cfg, ranks) ? Masters::elsewhere : Masters::here),
      model(params, cfg.model),
      packed(plan_packed_weights(arenas.rounded, params, cfg.run)),
      shards(params.flat_size(), model.part_begins, kSumBlock, ranks),
      sharded(shares_optimizer(cfg, ranks)),
      own_masters(sharded && params.flat_rounded().rows > 0
                      ? arenas.parameters.alloc("masters", DType::f32, 1, shards.owned())
                      : Tensor{}),
      optimizer(cfg.optimizer, params, optimizer_parts(), arenas.optimizer, own_masters),
      all_gradients(params.flat_grads()),
      slot_partials(plan_slots(arenas.slots, cfg)),
      saved(model.plan(arenas.activations, arenas.recompute, cfg.train.recompute, activation_type(cfg.run),
                       cfg.micro_batch_rows())) {
  const i64 sequences = cfg.train.batch_size / ranks.size, rows = sequences * cfg.train.context_length;
  if (ranks.size > 1 && cfg.parallel.reduction == Reduction::exact)
    for (Tensor& r : received) r = arenas.exchange.alloc("received", DType::f32, 1, shards.largest_received());
  if (own_masters.rows > 0) plan_exact(arenas.exchange, model.part_begins);
  Arena& a = arenas.tokens;
  batch = {.ids = a.alloc("ids", DType::i32, rows, 1),
           .targets = a.alloc("targets", DType::i32, rows, 1),
           .seq = {sequences, cfg.train.context_length, a.alloc("starts", DType::i32, rows, 1)}};
  losses = a.alloc("losses", DType::f32, cfg.micro_batch_rows(), 1);
  loss_sums = a.alloc("loss sums", DType::f64, cfg.micro_batches(), 1);
  square_sums = a.alloc("square sums", DType::f64, sum_blocks(all_gradients.cols), 1);
  scalars = a.alloc("scalars", DType::f64, 1, kUpdateScalars);
}

void TrainState::plan_exact(Arena& arena, const std::vector<i64>& parts) {
  const int size = shards.ranks().size;
  i64 at = 0;
  exact_borders.push_back(0);
  for (int rank = 0; rank < size; ++rank) {
    const RowShards of(params.flat_size(), parts, kSumBlock, {rank, size});
    for (std::size_t i = 0; i < params.all().size(); ++i) {
      const ParamInfo& info = params.all()[i];
      if (info.use != Use::exact) continue;
      const i64 place = params.place(i), end_of_it = place + info.master.size();
      for (const Piece& p : of.pieces()) {
        const i64 begin = std::max(place, p.begin), end = std::min(end_of_it, p.end);
        if (begin >= end) continue;
        const Tensor value = info.param.value.flat().slice_cols(begin - place, end - place);
        exact_pieces.push_back({value, rank, at, p.at + begin - p.begin});
        at += end - begin;
      }
    }
    exact_borders.push_back(at);
  }
  exact_row = arena.alloc("exact weights", DType::f32, 1, at);
}

// Where the masters are elsewhere, the initial values come by way of the gradients, which have the same places.
void TrainState::initialise(Context& ctx, std::uint64_t seed) const {
  if (own_masters.rows == 0) {
    xlstm::initialise(ctx, params, seed);
    return round_parameters(ctx);
  }
  xlstm::initialise(ctx, params, seed, InitialValues::gradients);
  ops::copy(ctx, params.flat_rounded(), all_gradients);
  weights_changed(ctx);
  for (const Piece& p : shards.pieces())
    if (p.end > p.begin)
      ops::copy(ctx, own_masters.slice_cols(p.at, p.at + p.end - p.begin), all_gradients.slice_cols(p.begin, p.end));
  for (const ParamInfo& info : params.all())
    if (info.use == Use::exact) ops::copy(ctx, info.param.value, info.param.grad);
}

void TrainState::round_parameters(Context& ctx) const {
  const Tensor rounded = params.flat_rounded();
  if (rounded.rows == 0) return;
  weights_changed(ctx);
  if (own_masters.rows == 0) return ops::copy(ctx, rounded, params.flat_masters());
  for (const Piece& p : shards.pieces())
    if (p.end > p.begin)
      ops::copy(ctx, rounded.slice_cols(p.begin, p.end), own_masters.slice_cols(p.at, p.at + p.end - p.begin));
}

std::vector<NamedTensor> TrainState::named_params() const {
  std::vector<NamedTensor> out;
  for (const ParamInfo& info : params.all()) out.push_back({info.name, info.master, info.is_matrix()});
  return out;
}

std::vector<NamedTensor> TrainState::named_moments() const {
  std::vector<NamedTensor> out;
  for (std::size_t i = 0; i < params.all().size(); ++i) {
    const ParamInfo& info = params.all()[i];
    const auto moment = [&](const Tensor& row) {
      if (!sharded) return params.part_of_flat(row, i);
      Tensor elsewhere = info.master;
      elsewhere.data = nullptr;
      return elsewhere;
    };
    out.push_back({"m." + info.name, moment(optimizer.flat().m), info.is_matrix()});
    out.push_back({"v." + info.name, moment(optimizer.flat().v), info.is_matrix()});
  }
  return out;
}

std::vector<TensorPiece> TrainState::pieces() const {
  std::vector<TensorPiece> out;
  for (std::size_t i = 0; i < params.all().size(); ++i) {
    const i64 place = params.place(i), size = params.all()[i].master.size();
    for (const Piece& p : shards.pieces()) {
      const i64 begin = std::max(place, p.begin), end = std::min(place + size, p.end);
      if (begin >= end) continue;
      const i64 in_moments = sharded ? p.at - p.begin : 0;
      const auto moment = [&](const Tensor& row) { return row.slice_cols(begin + in_moments, end + in_moments); };
      const Tensor values = own_masters.rows > 0 ? own_masters.slice_cols(begin + p.at - p.begin, end + p.at - p.begin)
                                                 : params.flat_masters().slice_cols(begin, end);
      out.push_back({TensorPiece::Of::params, i, begin - place, values});
      out.push_back({TensorPiece::Of::optimizer, 2 * i, begin - place, moment(optimizer.flat().m)});
      out.push_back({TensorPiece::Of::optimizer, 2 * i + 1, begin - place, moment(optimizer.flat().v)});
    }
  }
  return out;
}

std::vector<AdamW::Part> TrainState::optimizer_parts() const {
  if (!sharded) return {{0, params.flat_size(), 0}};
  std::vector<AdamW::Part> parts;
  for (const Piece& p : shards.pieces()) parts.push_back({p.begin, p.end, p.at});
  return parts;
}

// A slot that is done waits for its neighbour: one buffer per level of the tree (TrainStep::merge_slot).
std::vector<Tensor> TrainState::plan_slots(Arena& arena, const TrainConfig& cfg) const {
  std::vector<Tensor> partials;
  if (cfg.parallel.reduction == Reduction::fast) return partials;
  const i64 slots = cfg.parallel.reduction_slots / shards.ranks().size;
  const int levels = std::bit_width(static_cast<std::uint64_t>(slots)) - 1;
  partials.reserve(static_cast<std::size_t>(levels));
  for (int level = 0; level < levels; ++level)
    partials.push_back(arena.alloc("slot", DType::f32, 1, params.flat_size()));
  return partials;
}

void check_ranks(const TrainConfig& cfg, int ranks) {
  if (cfg.parallel.reduction == Reduction::exact && cfg.parallel.reduction_slots % ranks != 0)
    throw user_error(
        "parallel.reduction_slots: {} slots cannot be shared by {} ranks evenly; {}", cfg.parallel.reduction_slots,
        ranks,
        std::has_single_bit(static_cast<unsigned>(ranks))
            ? "start fewer, or set a power of two of at least that many (another number of slots is another run)"
            : "start 1, 2, 4, ... of them, or set parallel.reduction=fast");
  if (cfg.micro_batches() % ranks != 0)
    throw user_error(
        "train.batch_size: the {} micro-batches of an update (batch_size / micro_batch_size) cannot be shared by {} "
        "ranks evenly",
        cfg.micro_batches(), ranks);
  if (cfg.run.cuda_graph && ranks > 1)
    throw user_error("run.cuda_graph: is for one rank; leave it out of a run of {}", ranks);
}

std::vector<ArenaSize> measure_training(const TrainConfig& cfg, Device device, Gpu* gpu, Ranks ranks) {
  check_ranks(cfg, ranks.size);
  TrainArenas arenas = TrainArenas::measuring(device);
  TrainState state(arenas, cfg, ranks);
  plan_snapshot(arenas.snapshot, state);
  Context dry{.device = device,
              .isa = isa_asked_for(cfg.run),
              .gpu = gpu,
              .cell_kernel = cfg.run.cell_kernel,
              .scratch = &arenas.scratch};
  TrainStep(dry, state, cfg).dry_run();
  std::vector<ArenaSize> sizes = arenas.sizes();
  if (!cfg.eval.prompts.empty() && ranks.rank == 0)
    sizes.push_back({"prompts", sampling_bytes(cfg, state.model, dry), device, /*of_rank_0=*/ranks.size > 1});
  if (device == Device::cpu) {
    const bool library = !rounds(cfg) && isa_asked_for(cfg.run) != CpuIsa::amx;
    const i64 of_a_thread =
        std::max(library ? kLibraryScratchBytes : kProductScratchBytes, cfg.model.vocab_size * i64{sizeof(float)});
    const i64 heads = cfg.model.mixer.num_heads,
              widest = std::max((1 + 2 * heads) * cfg.model.embedding_dim, cfg.model.v_dim());
    const i64 sums = RowParts(cfg.micro_batch_rows()).count * RowParts::stride(widest) * i64{sizeof(float)};
    sizes.push_back({"thread scratch", max_threads() * of_a_thread + sums, device});
    sizes.push_back({"program and libraries", kProgramBytes, device});
  }
  if (device == Device::cuda) sizes.push_back({"library workspace", Gpu::kWorkspaceBytes, device});
  if (device == Device::cuda && ranks.size > 1) sizes.push_back({"NCCL, reserved", nccl_bytes(ranks.size), device});
  return sizes;
}

i64 total_bytes(const std::vector<ArenaSize>& sizes) {
  return total_bytes(sizes, Device::cpu) + total_bytes(sizes, Device::cuda);
}

i64 total_bytes(const std::vector<ArenaSize>& sizes, Device device) {
  i64 total = 0;
  for (const ArenaSize& size : sizes)
    if (size.device == device) total += size.bytes;
  return total;
}

i64 host_bytes(const std::vector<ArenaSize>& sizes, int ranks) {
  i64 total = 0;
  for (const ArenaSize& size : sizes)
    if (size.device == Device::cpu) total += (size.of_rank_0 ? 1 : ranks) * size.bytes;
  return total;
}

}  // namespace xlstm
