#include "train/load_state.h"

#include "train/machine.h"

namespace xlstm {

namespace {

std::vector<NamedTensor> as_named(const std::vector<TensorPiece>& pieces) {
  std::vector<NamedTensor> out;
  out.reserve(pieces.size());
  for (const TensorPiece& p : pieces) out.push_back({"piece", p.values});
  return out;
}

// Each rank reads what it has to have: all of it, or, where the moments are shared out, its pieces.
std::vector<TensorPiece> pieces_to_load(const TrainState& state, const WhatToLoad& what) {
  if (!state.sharded) return {};
  std::vector<TensorPiece> pieces = state.pieces();
  if (!what.with_optimizer)
    std::erase_if(pieces, [](const TensorPiece& p) { return p.of == TensorPiece::Of::optimizer; });
  return pieces;
}

}  // namespace

std::optional<LoadedCheckpoint> load_state(const StateMemory& memory, const fs::path& path, const WhatToLoad& what) {
  const TrainState& state = memory.state;
  Arena staging = memory.staging, nowhere = Arena::measuring("names");
  std::vector<TensorPiece> pieces = pieces_to_load(state, what);
  const HostTwins params(state.named_params(), state.sharded ? nowhere : staging),
      moments(what.with_optimizer ? state.named_moments() : std::vector<NamedTensor>{},
              state.sharded ? nowhere : staging),
      parts(as_named(pieces), staging);
  for (std::size_t i = 0; i < pieces.size(); ++i) pieces[i].values = parts.host()[i].value;
  const LoadTarget target{.params = params.host(),
                          .optimizer = moments.host(),
                          .with_optimizer = what.with_optimizer,
                          .check_state = what.check_state,
                          .shared_out = state.sharded,
                          .pieces = std::move(pieces),
                          .up_to_step = what.up_to_step};
  auto loaded = load_newest_checkpoint(path, target, &memory.ranks);
  if (!loaded) return loaded;
  if (state.sharded) {
    parts.upload(memory.ctx);
  } else {
    params.upload(memory.ctx);
    moments.upload(memory.ctx);
  }
  state.round_parameters(memory.ctx);
  memory.step.share_weights();
  return loaded;
}

}  // namespace xlstm
