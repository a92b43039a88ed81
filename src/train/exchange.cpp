#include "train/exchange.h"

#include <algorithm>

namespace xlstm {

namespace {

// The time in a call of the communicator; on a GPU, until all that was begun there is done.
template <class F>
auto timed(Context& ctx, F&& call) {
  const Timer timer;
  const auto count = [&] {
    if (!ctx.profile) return;
    if (ctx.gpu) ctx.gpu->synchronize();
    ctx.profile->add_call(OpClass::exchange, timer.seconds());
  };
  if constexpr (std::is_void_v<decltype(call())>) {
    call();
    count();
  } else {
    const auto result = call();
    count();
    return result;
  }
}

Tensor as_row(Tensor column) { return column.flat(); }

}  // namespace

ExchangedBytes exchanged_bytes(const TrainState& s, const TrainConfig& cfg) {
  const double ranks = s.shards.ranks().size, others = (ranks - 1) / ranks;
  const auto to_others = [&](const Tensor& t) { return others * static_cast<double>(t.bytes()); };
  const Tensor rounded = s.params.flat_rounded();
  const bool gathers_gradients = !s.sharded && cfg.parallel.reduction == Reduction::exact;
  const bool twice = cfg.parallel.reduction == Reduction::fast || gathers_gradients;
  return {.gradients = (twice ? 2 : 1) * to_others(s.all_gradients),
          .weights = s.sharded ? to_others(rounded.rows > 0 ? rounded : s.params.flat_masters()) : 0,
          .small = to_others(s.square_sums) + to_others(s.loss_sums) + to_others(s.exact_row)};
}

void RankExchange::begin(Context& ctx, Stage stage, i64 segment, const Collective& c) {
  under_way_.push_back({stage, segment, next_buffer_, timed(ctx, [&] { return ranks_.begin(ctx, c); })});
}

i64 RankExchange::sums_under_way() const {
  return std::count_if(under_way_.begin(), under_way_.end(), [](const UnderWay& u) { return u.stage == Stage::sums; });
}

void RankExchange::gradients_ready(Context& ctx, i64 part) {
  if (s_.shards.length(part) == 0) return;
  const Tensor row = s_.all_gradients;
  if (cfg_.parallel.reduction == Reduction::fast) {
    const Tensor segment = row.slice_cols(s_.shards.begin(part), s_.shards.end(part));
    return begin(ctx, Stage::sums, part,
                 {.kind = Collective::Kind::sum, .what = "sum of gradients", .part = part, .row = segment});
  }
  while (sums_under_way() == static_cast<i64>(s_.received.size())) finish_oldest(ctx);
  const Tensor& room = s_.received[next_buffer_];
  begin(ctx, Stage::sums, part,
        {.kind = Collective::Kind::exchange,
         .what = "exchange of gradients",
         .part = part,
         .row = row,
         .received = room,
         .borders = s_.shards.borders(part)});
  next_buffer_ = (next_buffer_ + 1) % s_.received.size();
}

void RankExchange::finish_oldest(Context& ctx) {
  const UnderWay u = under_way_.front();
  timed(ctx, [&] { ranks_.finish(ctx, u.number); });
  under_way_.pop_front();
  if (u.stage == Stage::exact_weights)
    for (const TrainState::ExactPiece& p : s_.exact_pieces)
      ops::copy(ctx, p.value, s_.exact_row.slice_cols(p.at, p.at + p.value.cols));
  if (u.stage != Stage::sums) return;
  if (cfg_.parallel.reduction == Reduction::exact) add_received(ctx, u.segment, s_.received[u.buffer]);
  segment_summed(ctx, u.segment);
}

// ((x0 + x1) + (x2 + x3)) + ... of the ranks' sums, which are the subtrees of their slots; own values lie in
// all_gradients, and so does the result.
void RankExchange::add_received(Context& ctx, i64 segment, const Tensor& received) {
  const Piece& piece = s_.shards.piece(segment);
  const i64 n = piece.end - piece.begin, size = ranks_.size(), me = ranks_.rank();
  if (n == 0) return;
  const Tensor own = s_.all_gradients.slice_cols(piece.begin, piece.end);
  const auto of = [&](i64 rank) { return rank == me ? own : received.slice_cols(rank * n, (rank + 1) * n); };
  for (i64 step = 1; step < size; step *= 2)
    for (i64 r = 0; r < size; r += 2 * step) ops::add(ctx, 2 * step == size ? own : of(r), of(r), of(r + step));
}

// Its squares are summed where it lies; ranks that update all weights need the gradients everywhere, too.
void RankExchange::segment_summed(Context& ctx, i64 segment) {
  const RowShards& shards = s_.shards;
  const Piece& piece = shards.piece(segment);
  const std::vector<i64>& grains = shards.grain_borders(segment);
  const auto me = static_cast<std::size_t>(ranks_.rank());
  if (piece.end > piece.begin)
    ops::sum_squares(ctx, s_.square_sums.slice_rows(grains[me], grains[me + 1]),
                     s_.all_gradients.slice_cols(piece.begin, piece.end));
  begin(ctx, Stage::squares, segment,
        {.kind = Collective::Kind::gather,
         .what = "norm of gradients",
         .part = segment,
         .row = as_row(s_.square_sums),
         .borders = grains});
  if (s_.sharded || cfg_.parallel.reduction == Reduction::fast) return;
  begin(ctx, Stage::gradients, segment,
        {.kind = Collective::Kind::gather,
         .what = "gather of gradients",
         .part = segment,
         .row = s_.all_gradients,
         .borders = shards.borders(segment)});
}

void RankExchange::finish_gradients(Context& ctx) {
  if (loss_borders_.empty())
    for (i64 r = 0; r <= ranks_.size(); ++r) loss_borders_.push_back(r * (s_.loss_sums.rows / ranks_.size()));
  begin(ctx, Stage::losses, 0,
        {.kind = Collective::Kind::gather, .what = "losses", .row = as_row(s_.loss_sums), .borders = loss_borders_});
  while (!under_way_.empty()) finish_oldest(ctx);
}

void RankExchange::send_weights(Context& ctx) {
  if (!s_.sharded) return;
  const Tensor rounded = s_.params.flat_rounded();
  if (s_.exact_row.cols > 0) {  // what the others have to know in f32
    for (const TrainState::ExactPiece& p : s_.exact_pieces)
      if (p.rank == ranks_.rank())
        ops::copy(ctx, s_.exact_row.slice_cols(p.at, p.at + p.value.cols),
                  s_.own_masters.slice_cols(p.in_masters, p.in_masters + p.value.cols));
    begin(ctx, Stage::exact_weights, 0,
          {.kind = Collective::Kind::gather,
           .what = "gather of norms and biases",
           .row = s_.exact_row,
           .borders = s_.exact_borders});
  }
  for (i64 segment = 0; segment < s_.shards.segments(); ++segment) {
    if (s_.shards.length(segment) == 0) continue;
    begin(ctx, Stage::weights, segment,
          {.kind = Collective::Kind::gather,
           .what = "gather of weights",
           .part = segment,
           .row = rounded.rows > 0 ? rounded : s_.params.flat_masters(),
           .borders = s_.shards.borders(segment)});
  }
}

void RankExchange::need_weights(Context& ctx, i64 part) {
  while (!under_way_.empty() && under_way_.front().segment <= part) finish_oldest(ctx);
}

void RankExchange::need_all_weights(Context& ctx) { need_weights(ctx, s_.shards.segments()); }

}  // namespace xlstm
