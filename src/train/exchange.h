#pragma once
// What ranks exchange in a step, and when. Each segment of the row of gradients leaves as soon as the backward pass is
// through with its part of the model, while the pass goes on; each segment of the updated weights comes back while the
// next forward pass is under way, and is waited for where it is needed.
//
// Exact: every rank sends its sum of its own slots, a shard to each rank; there the shards are added in the fixed tree
// (docs/numerics.md), so that the bits are those of one rank. That is the volume of a ring's reduce-scatter. Fast: the
// library's own all-reduce.
#include <deque>

#include "dist/communicator.h"
#include "train/memory.h"

namespace xlstm {

// What a rank sends in a step, bytes, as a mean over the ranks (docs/scaling.md). `state`: of any of them, measured is
// enough. What the library's own sum sends is a ring's by formula.
struct ExchangedBytes {
  double gradients = 0;  // exchanged or summed, and gathered where every rank updates everything
  double weights = 0;
  double small = 0;  // sums of squares, losses; norms and biases in f32 beside weights in bf16
  double total() const { return gradients + weights + small; }
};
ExchangedBytes exchanged_bytes(const TrainState& state, const TrainConfig& cfg);

class RankExchange {
 public:
  RankExchange(Communicator& ranks, TrainState& state, const TrainConfig& cfg) : ranks_(ranks), s_(state), cfg_(cfg) {}

  // This rank's gradients of that part of the model are complete. Parts come in the order of the backward pass.
  void gradients_ready(Context& ctx, i64 part);
  // Afterwards all_gradients holds the sums of all ranks, in this rank's pieces or everywhere (TrainState::sharded),
  // and loss_sums and square_sums hold everything.
  void finish_gradients(Context& ctx);

  // This rank has updated its pieces of the weights. Nothing to do where every rank updates all.
  void send_weights(Context& ctx);
  // Waits for those that the part's forward pass reads.
  void need_weights(Context& ctx, i64 part);
  void need_all_weights(Context& ctx);

 private:
  enum class Stage : std::uint8_t { sums, squares, gradients, losses, exact_weights, weights };
  struct UnderWay {
    Stage stage;
    i64 segment;
    std::size_t buffer;
    i64 number;
  };

  void begin(Context& ctx, Stage stage, i64 segment, const Collective& c);
  void finish_oldest(Context& ctx);
  void add_received(Context& ctx, i64 segment, const Tensor& received);
  void segment_summed(Context& ctx, i64 segment);
  i64 sums_under_way() const;

  Communicator& ranks_;
  TrainState& s_;
  const TrainConfig& cfg_;
  std::deque<UnderWay> under_way_;
  std::size_t next_buffer_ = 0;
  std::vector<i64> loss_borders_;
};

}  // namespace xlstm
