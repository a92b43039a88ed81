#include "train/gradient_norms.h"

#include <algorithm>
#include <cmath>

namespace xlstm {

namespace {

// One number for each block of the row that a parameter lies in.
struct Stretch {
  i64 begin, end;     // of the parameter in the row
  std::size_t place;  // of its first number
  i64 first_block() const { return begin / kSumBlock; }
  i64 blocks() const { return (end - 1) / kSumBlock - first_block() + 1; }
};

std::vector<Stretch> stretches(const ParamStore& params) {
  std::vector<Stretch> out;
  std::size_t place = 0;
  for (std::size_t i = 0; i < params.all().size(); ++i) {
    out.push_back({params.place(i), params.place(i) + params.all()[i].master.size(), place});
    place += static_cast<std::size_t>(out.back().blocks());
  }
  return out;
}

// Sums of squares of [begin, end) of the row, which no border of a block divides but its own beginning.
void add_squares(Context& ctx, const TrainState& state, i64 begin, i64 end, double* out) {
  if (begin >= end) return;
  const Tensor sums = state.square_sums.slice_rows(0, sum_blocks(end - begin));
  ops::sum_squares(ctx, sums, state.all_gradients.slice_cols(begin, end));
  download(ctx, out, sums);
}

std::string layer_of(const std::string& name) {
  if (!name.starts_with("blocks.")) return name.starts_with("embedding.") ? "embedding" : "head";
  return name.substr(0, name.find('.', sizeof "blocks." - 1));
}

}  // namespace

std::vector<NamedNorm> gradient_norms(Context& ctx, const TrainState& state, Communicator& ranks) {
  const std::vector<Stretch> of = stretches(state.params);
  const std::size_t count = of.back().place + static_cast<std::size_t>(of.back().blocks());
  std::vector<double> mine(count, 0), all(count * static_cast<std::size_t>(ranks.size()));
  for (const Stretch& s : of)
    for (const Piece& p : state.shards.pieces()) {
      const i64 begin = std::max(s.begin, p.begin), end = std::min(s.end, p.end);
      if (begin >= end) continue;
      const i64 border = std::min(end, (begin / kSumBlock + 1) * kSumBlock);
      double* const out = mine.data() + s.place + (begin / kSumBlock - s.first_block());
      add_squares(ctx, state, begin, border, out);
      add_squares(ctx, state, border, end, out + 1);
    }
  ranks.gather_bytes("norms of gradients", mine.data(), all.data(), static_cast<i64>(count * sizeof(double)));

  std::vector<NamedNorm> norms;
  for (std::size_t i = 0; i < of.size(); ++i) {
    double sum = 0;
    for (std::size_t b = of[i].place; b < of[i].place + static_cast<std::size_t>(of[i].blocks()); ++b)
      for (std::size_t at = b; at < all.size(); at += count) sum += all[at];  // one rank has it, the others 0
    norms.push_back({state.params.all()[i].name, std::sqrt(sum)});
  }
  return norms;
}

std::vector<NamedNorm> layer_norms(const std::vector<NamedNorm>& parameters) {
  std::vector<NamedNorm> layers;
  for (const NamedNorm& p : parameters) {
    const std::string layer = layer_of(p.name);
    if (layers.empty() || layers.back().name != layer) layers.push_back({layer, 0});
    layers.back().norm += p.norm * p.norm;
  }
  for (NamedNorm& layer : layers) layer.norm = std::sqrt(layer.norm);
  return layers;
}

}  // namespace xlstm
