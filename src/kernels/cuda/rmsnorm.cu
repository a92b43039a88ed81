// RMSNorm over the columns of each row, and what is computed beside it: the pre-activations of a mixer's gates, from
// the row before it is rounded; in backward, the gradient that comes in through them and through the residual stream.
// Forward reads x and writes y, backward reads x, dy and the stream's gradient and writes dx, each once.
//
// The gates' weights are f32 and few (2H rows of D), but every row of x meets all of them. A CTA takes them from the
// L1 cache, at 128 bytes per cycle: for each row alone that would be 512 cycles at D 2048 and H 4, where HBM takes 430
// for a row of forward. So a team works on as many rows at a time as its registers hold, and a weight that was read
// serves all of them. Then lanes take 4 columns, not 8, of bf16: 16 bytes of weights per lane side by side.
#include <cmath>

#include "kernels/cuda/lane_sums.cuh"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/row_teams.cuh"
#include "kernels/ops.h"

namespace xlstm::gpu {

using namespace dialect;

namespace {

constexpr int kHeld = 32;  // elements per thread: E of each of kHeld / E rows
constexpr i64 kBlockRows = 32;
static_assert(kBlockRows % (kHeld / 8 * kTeamWarps) == 0);  // whole steps of any number of teams

// The gates at a step of kRows rows: kTile outputs at a time, so that a warp has one number per lane.
template <int W, int E>
struct Gates {
  static constexpr int kRows = kHeld / E, kTile = 32 / kRows, kRuns = E / W;
  Rows<float> pre, weights;  // pre: its gradient in backward
  int outputs;

  static XL_DEVICE int lane_row() { return lane_index() / kTile; }
  static XL_DEVICE int lane_output() { return lane_index() % kTile; }

  // pre = y weights^T for rows [row, rows). `turn` counts the barriers of the CTA.
  XL_DEVICE void project(const float (&y)[kRows][kRuns][W], i64 row, i64 rows, const Team<W, E>& team, int turn) const {
    for (int tile = 0; tile < outputs; tile += kTile) {
      float sums[32] = {};  // row, output
      XL_UNROLL
      for (int o = 0; o < kTile; ++o) {
        if (tile + o >= outputs) continue;
        team.for_runs([&](int run, int column) {
          float w[W];
          load_floats<W>(w, weights.row(tile + o) + column);
          XL_UNROLL
          for (int r = 0; r < kRows; ++r)
            for (int i = 0; i < W; ++i) sums[r * kTile + o] += y[r][run][i] * w[i];
        });
      }
      share_out_sums<16, 1, 1>(sums);
      const float sum = team_lane_sum(sums[0], team.warps, turn++);
      const i64 at = row + lane_row();
      const int output = tile + lane_output();
      if (warp_index() % team.warps == 0 && at < rows && output < outputs) global_store(pre.row(at) + output, sum);
    }
  }

  // g += pre weights, with g and pre being gradients
  XL_DEVICE void add_gradient(float (&g)[kRows][kRuns][W], i64 row, i64 rows, const Team<W, E>& team) const {
    for (int tile = 0; tile < outputs; tile += kTile) {
      const i64 at = row + lane_row();
      const int output = tile + lane_output();
      const float mine = at < rows && output < outputs ? global_load(pre.row(at) + output) : 0.f;
      for (int o = 0; o < kTile && tile + o < outputs; ++o) {
        float d[kRows];
        XL_UNROLL
        for (int r = 0; r < kRows; ++r) d[r] = shuffle_from(mine, r * kTile + o);
        team.for_runs([&](int run, int column) {
          float w[W];
          load_floats<W>(w, weights.row(tile + o) + column);
          XL_UNROLL
          for (int r = 0; r < kRows; ++r)
            for (int i = 0; i < W; ++i) g[r][run][i] += d[r] * w[i];
        });
      }
    }
  }
};

template <class T, int W, int E>
struct Forward {
  Rows<T> y, x;
  Rows<float> rstd;
  const float* w;
  i64 rows;
  float eps;
  Gates<W, E> gates;
  Team<W, E> team;
};

template <class T, int W, int E>
XL_KERNEL(kTeamThreads, W == 1 ? 1 : 2)
rmsnorm_forward_rows(const Forward<T, W, E> p) {
  constexpr int kRows = kHeld / E;
  const i64 row = (i64{block_index().x} * p.team.count() + p.team.index()) * kRows;
  float x[kRows][E / W][W] = {}, squares[kRows] = {};
  XL_UNROLL
  for (int r = 0; r < kRows; ++r)
    if (row + r < p.rows)
      p.team.for_runs([&](int run, int column) { load_floats<W>(x[r][run], p.x.row(row + r) + column); });
  XL_UNROLL
  for (int r = 0; r < kRows; ++r)
    p.team.for_runs([&](int run, int) {
      for (int i = 0; i < W; ++i) squares[r] += x[r][run][i] * x[r][run][i];
    });
  team_sums(squares, p.team.warps, 0);
  float rstd[kRows];
  XL_UNROLL
  for (int r = 0; r < kRows; ++r) rstd[r] = 1.f / sqrtf(squares[r] / static_cast<float>(p.team.cols) + p.eps);
  p.team.for_runs([&](int run, int column) {
    float w[W];
    load_floats<W>(w, p.w + column);
    XL_UNROLL
    for (int r = 0; r < kRows; ++r) {
      for (int i = 0; i < W; ++i) x[r][run][i] = x[r][run][i] * rstd[r] * w[i];
      if (row + r >= p.rows) continue;
      store_floats<W>(p.y.row(row + r) + column, x[r][run]);
      if (column == 0) global_store(p.rstd.row(row + r), rstd[r]);
    }
  });
  p.gates.project(x, row, p.rows, p.team, 1);
}

template <class T, int W, int E>
struct Backward {
  Rows<T> dx, dy, dresidual, x;  // dresidual may be absent
  Rows<float> rstd;
  const float* w;
  i64 rows;
  Gates<W, E> gates;
  RowBlocks blocks;
  Team<W, E> team;
};

// With dy including what came through the gates: dx = dresidual + rstd (w dy - x rstd^2 mean(w dy x)), and this
// block's part of dw = sum of dy x rstd.
template <class T, int W, int E>
XL_KERNEL(kTeamThreads, E < kHeld && sizeof(T) == 2 ? 2 : 1)
rmsnorm_backward_rows(const Backward<T, W, E> p) {
  constexpr int kRows = kHeld / E, kRuns = E / W;
  const i64 begin = i64{block_index().x} * p.blocks.rows;
  float dw[kRuns][W] = {};
  int turn = 0;
  for (i64 row = begin + p.team.index() * kRows; row < begin + p.blocks.rows; row += p.team.count() * kRows) {
    Packed<T, W> x[kRows][kRuns] = {}, dresidual[kRows][kRuns] = {};
    float g[kRows][kRuns][W] = {}, rstd[kRows] = {}, dots[kRows] = {};
    XL_UNROLL
    for (int r = 0; r < kRows; ++r) {
      if (row + r >= p.rows) continue;
      rstd[r] = global_load(p.rstd.row(row + r));
      p.team.for_runs([&](int run, int column) {
        x[r][run].load(p.x.row(row + r) + column);
        load_floats<W>(g[r][run], p.dy.row(row + r) + column);
        if (p.dresidual.data) dresidual[r][run].load(p.dresidual.row(row + r) + column);
      });
    }
    p.gates.add_gradient(g, row, p.rows, p.team);
    p.team.for_runs([&](int run, int column) {
      float w[W];
      load_floats<W>(w, p.w + column);
      XL_UNROLL
      for (int r = 0; r < kRows; ++r)
        for (int i = 0; i < W; ++i) {
          dw[run][i] += g[r][run][i] * x[r][run][i] * rstd[r];
          g[r][run][i] *= w[i];
          dots[r] += g[r][run][i] * x[r][run][i];
        }
    });
    team_sums(dots, p.team.warps, turn++);
    XL_UNROLL
    for (int r = 0; r < kRows; ++r) {
      if (row + r >= p.rows) continue;
      const float along = rstd[r] * rstd[r] * rstd[r] * dots[r] / static_cast<float>(p.team.cols);
      p.team.for_runs([&](int run, int column) {
        float dx[W];
        for (int i = 0; i < W; ++i) dx[i] = g[r][run][i] * rstd[r] - x[r][run][i] * along + dresidual[r][run][i];
        store_floats<W>(p.dx.row(row + r) + column, dx);
      });
    }
  }
  store_team_column_sums(p.blocks.partials + i64{block_index().x} * p.team.cols, dw, p.team);
}

// dgates = dpre^T y with y = x rstd w: one more reading of x, because its sums (2H per column) and those above do not
// fit into the registers of one kernel. A CTA takes 32 W columns, 8 outputs and a block of rows, which its warps share.
constexpr int kGateRows = 4, kGateOutputs = 8;  // of a warp at a time: 32 numbers, one per lane
constexpr i64 kGateBlockRows = 256;

template <class T>
struct GateWeights {
  Rows<T> x;
  Rows<float> dpre, rstd;
  const float* w;
  i64 rows;
  int cols, outputs;
  RowBlocks blocks;
};

template <class T, int W>
XL_KERNEL(kTeamThreads, 2)
gate_weight_gradient(const GateWeights<T> p) {
  constexpr int kCols = 32 * W;
  const int left = static_cast<int>(block_index().x) * kCols, column = left + lane_index() * W;
  const int tile = static_cast<int>(block_index().z) * kGateOutputs, output = tile + lane_index() % kGateOutputs;
  const i64 begin = i64{block_index().y} * p.blocks.rows;
  const i64 end = begin + p.blocks.rows < p.rows ? begin + p.blocks.rows : p.rows;
  float sums[kGateOutputs][W] = {};
  for (i64 row = begin + warp_index() * kGateRows; row < end; row += kTeamWarps * kGateRows) {
    const i64 mine = row + lane_index() / kGateOutputs;
    const float dpre =
        mine < end && output < p.outputs ? global_load(p.dpre.row(mine) + output) * global_load(p.rstd.row(mine)) : 0.f;
    float x[kGateRows][W] = {};
    XL_UNROLL
    for (int r = 0; r < kGateRows; ++r)
      if (column < p.cols && row + r < end) load_floats<W>(x[r], p.x.row(row + r) + column);
    XL_UNROLL
    for (int r = 0; r < kGateRows; ++r) {
      XL_UNROLL
      for (int o = 0; o < kGateOutputs; ++o) {
        const float d = shuffle_from(dpre, r * kGateOutputs + o);
        for (int i = 0; i < W; ++i) sums[o][i] += d * x[r][i];
      }
    }
  }
  const auto slot = [](int warp, int o, int at) {
    return shared_begin() + static_cast<std::uint32_t>((warp * kGateOutputs + o) * kCols + at) * kFloat;
  };
  XL_UNROLL
  for (int o = 0; o < kGateOutputs; ++o) shared_store_floats<W>(slot(warp_index(), o, lane_index() * W), sums[o]);
  sync_cta();
  float* const partials = p.blocks.partials + i64{block_index().y} * p.blocks.columns;
  for (int index = thread_index(); index < kGateOutputs * kCols; index += kTeamThreads) {
    const int o = tile + index / kCols, at = left + index % kCols;
    if (o < p.outputs && at < p.cols)
      global_store(partials + i64{o} * p.cols + at,
                   shared_column_sum(slot(0, 0, index), kTeamWarps, kGateOutputs * kCols) * global_load(p.w + at));
  }
}

struct Call {  // what both passes share; pre and gates may be absent
  Tensor x, w, rstd, pre, gates;
};

void check_call(const Call& c) {
  check_shape(c.rstd, c.x.rows, 1, DType::f32);
  check_shape(c.w, 1, c.x.cols, DType::f32);
  if (c.gates.rows == 0) return;
  check_shape(c.pre, c.x.rows, c.gates.rows, DType::f32);
  check_shape(c.gates, c.gates.rows, c.x.cols, DType::f32);
}

template <int W, int E>
Gates<W, E> gates_of(const Call& c) {
  return {rows_of<float>(c.pre), rows_of<float>(c.gates), static_cast<int>(c.gates.rows)};
}

// start.operator()<W, E>() with what suits the call: the narrower a row, the more rows at a time.
template <class T, class F>
void with_team(const Call& c, bool wide, F&& start) {
  const auto by_width = [&]<int W>() {
    if (c.x.cols <= kTeamThreads * 8) return start.template operator()<W, 8>();
    if (c.x.cols <= kTeamThreads * 16) return start.template operator()<W, 16>();
    start.template operator()<W, kHeld>();
  };
  if (!wide) return start.template operator()<1, kHeld>();
  if (c.gates.rows > 0) return by_width.template operator()<4>();
  by_width.template operator()<kWide<T>>();
}

void forward(Context& ctx, Tensor y, const Call& c, double eps) {
  check_shape(y, c.x.rows, c.x.cols, c.x.dtype);
  check_call(c);
  with_gpu_type(c.x.dtype, [&]<class T>() {
    with_team<T>(c, all_wide(y, c.x, c.w, c.gates), [&]<int W, int E>() {
      const auto team = Team<W, E>::of(c.x.cols);
      const i64 rows = team.count() * (kHeld / E);  // of a CTA
      launch(ctx, {.x = (c.x.rows + rows - 1) / rows, .threads = kTeamThreads, .shared_bytes = kTeamSumBytes},
             &rmsnorm_forward_rows<T, W, E>,
             {rows_of<T>(y), rows_of<T>(c.x), rows_of<float>(c.rstd), c.w.row<float>(), c.x.rows,
              static_cast<float>(eps), gates_of<W, E>(c), team});
    });
  });
}

void backward(Context& ctx, Tensor dx, Tensor dw, Tensor dy, Tensor dresidual, const Call& c) {
  for (const Tensor& t : {dx, dy}) check_shape(t, c.x.rows, c.x.cols, c.x.dtype);
  if (dresidual.rows > 0) check_shape(dresidual, c.x.rows, c.x.cols, c.x.dtype);
  check_shape(dw, 1, c.x.cols, DType::f32);
  check_call(c);
  with_gpu_type(c.x.dtype, [&]<class T>() {
    with_team<T>(c, all_wide(dx, dy, dresidual, c.x, c.w, c.gates), [&]<int W, int E>() {
      const auto team = Team<W, E>::of(c.x.cols);
      const RowBlocks blocks = row_blocks(ctx, c.x.rows, c.x.cols, kBlockRows);
      launch(ctx, {.x = blocks.count, .threads = kTeamThreads, .shared_bytes = team_shared_bytes(team)},
             &rmsnorm_backward_rows<T, W, E>,
             {rows_of<T>(dx), rows_of<T>(dy), rows_of<T>(dresidual), rows_of<T>(c.x), rows_of<float>(c.rstd),
              c.w.row<float>(), c.x.rows, gates_of<W, E>(c), blocks, team});
      add_partial_sums(ctx, dw, blocks);
    });
  });
}

void add_gate_weight_gradient(Context& ctx, Tensor dgates, const Call& c) {
  check_shape(dgates, c.gates.rows, c.x.cols, DType::f32);
  with_gpu_type(c.x.dtype, [&]<class T>() {
    const RowBlocks blocks = row_blocks(ctx, c.x.rows, dgates.size(), kGateBlockRows);
    const auto start = [&]<int W>() {
      launch(ctx,
             {.x = (c.x.cols + 32 * W - 1) / (32 * W),
              .y = blocks.count,
              .z = (c.gates.rows + kGateOutputs - 1) / kGateOutputs,
              .threads = kTeamThreads,
              .shared_bytes = kTeamWarps * kGateOutputs * 32 * W * static_cast<int>(kFloat)},
             &gate_weight_gradient<T, W>,
             {rows_of<T>(c.x), rows_of<float>(c.pre), rows_of<float>(c.rstd), c.w.row<float>(), c.x.rows,
              static_cast<int>(c.x.cols), static_cast<int>(c.gates.rows), blocks});
    };
    all_wide(c.x) ? start.template operator()<kWide<T>>() : start.template operator()<1>();
    add_partial_sums(ctx, dgates, blocks);
  });
}

}  // namespace

void rmsnorm_forward(Context& ctx, Tensor y, Tensor rstd, Tensor x, Tensor w, double eps) {
  forward(ctx, y, {.x = x, .w = w, .rstd = rstd, .pre = {}, .gates = {}}, eps);
}

void rmsnorm_backward(Context& ctx, Tensor dx, Tensor dw, Tensor dy, Tensor dresidual, Tensor x, Tensor w,
                      Tensor rstd) {
  backward(ctx, dx, dw, dy, dresidual, {.x = x, .w = w, .rstd = rstd, .pre = {}, .gates = {}});
}

void rmsnorm_gates_forward(Context& ctx, Tensor y, Tensor rstd, Tensor pre, Tensor x, Tensor w, Tensor gates,
                           double eps) {
  forward(ctx, y, {.x = x, .w = w, .rstd = rstd, .pre = pre, .gates = gates}, eps);
}

void rmsnorm_gates_backward(Context& ctx, Tensor dx, Tensor dw, Tensor dgates, Tensor dy, Tensor dresidual, Tensor dpre,
                            Tensor x, Tensor w, Tensor gates, Tensor rstd) {
  const Call c{.x = x, .w = w, .rstd = rstd, .pre = dpre, .gates = gates};
  add_gate_weight_gradient(ctx, dgates, c);
  backward(ctx, dx, dw, dy, dresidual, c);
}

}  // namespace xlstm::gpu
