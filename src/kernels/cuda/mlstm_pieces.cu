// The states before the pieces of a scan.
#include "kernels/cuda/mlstm/chunkwise.h"
#include "kernels/cuda/mlstm/piece_states.cuh"

namespace xlstm::gpu {

namespace {

void add_up(Context& ctx, const Scan& s, float* states, i64 size, bool reverse) {
  const i64 heads = i64{s.shape.sequences} * s.shape.heads;
  launch(ctx, {.x = (size + kThreads - 1) / kThreads, .y = heads, .threads = kThreads, .shared_bytes = kPieceSumBytes},
         &add_piece_states,
         PieceSum{.states = states,
                  .decay = s.decay,
                  .size = size,
                  .heads = heads,
                  .chunks = static_cast<int>(chunks_of(s.shape.tokens)),
                  .pieces = s.pieces,
                  .reverse = reverse});
}

}  // namespace

template <Pass kPass>
void run_piece_states(Context& ctx, const Scan& s) {
  if (s.pieces == 1) return;
  at_scan_width(
      s.dx, [&]<int kWidth>() { launch(ctx, scan_launch<kWidth>(s, s.pieces - 1), &piece_states<kWidth, kPass>, s); });
  add_up(ctx, s, s.piece_c, i64{s.shape.qk_dim} * s.shape.v_dim, in_reverse(kPass));
  if (kPass == Pass::forward && s.piece_n) add_up(ctx, s, s.piece_n, s.shape.qk_dim, /*reverse=*/false);
}

template void run_piece_states<Pass::forward>(Context&, const Scan&);
template void run_piece_states<Pass::dv>(Context&, const Scan&);

}  // namespace xlstm::gpu
