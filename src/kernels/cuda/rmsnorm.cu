// RMSNorm over the columns of each row. Forward reads x and writes y, backward reads x and dy and writes dx, each once;
// the weights come from the caches.
#include <cmath>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/row_teams.cuh"
#include "kernels/ops.h"

namespace xlstm::gpu {

using namespace dialect;

namespace {

constexpr int kElements = 32, kFewElements = 16;  // per thread
constexpr i64 kBlockRows = 32;
static_assert(kBlockRows % kTeamWarps == 0);  // whole steps of any number of teams

template <class T, int W>
struct Forward {
  Rows<T> y, x;
  Rows<float> rstd;
  const float* w;
  i64 rows;
  float eps;
  Team<W, kElements> team;
};

template <class T, int W>
XL_KERNEL(kTeamThreads, 2)
rmsnorm_forward_rows(const Forward<T, W> p) {
  const i64 row = i64{block_index().x} * p.team.count() + p.team.index();
  const auto team = p.team.only_if(row < p.rows);
  float x[kElements / W][W], squares[1] = {0};
  team.for_runs([&](int run, int column) { load_floats<W>(x[run], p.x.row(row) + column); });
  team.for_runs([&](int run, int) {
    for (int i = 0; i < W; ++i) squares[0] += x[run][i] * x[run][i];
  });
  team_sums(squares, team.warps, 0);
  const float rstd = 1.f / sqrtf(squares[0] / static_cast<float>(p.team.cols) + p.eps);
  team.for_runs([&](int run, int column) {
    float w[W], y[W];
    load_floats<W>(w, p.w + column);
    for (int i = 0; i < W; ++i) y[i] = x[run][i] * rstd * w[i];
    store_floats<W>(p.y.row(row) + column, y);
    if (column == 0) global_store(p.rstd.row(row), rstd);
  });
}

template <class T, int W, int E>
struct Backward {
  Rows<T> dx, dy, x;
  Rows<float> rstd;
  const float* w;
  i64 rows;
  RowBlocks blocks;
  Team<W, E> team;
};

// dx = rstd (w dy - x rstd^2 mean(w dy x)), and this block's part of dw = sum of dy x rstd.
template <class T, int W, int E>
XL_KERNEL(kTeamThreads, E > kFewElements ? 1
                        : sizeof(T) == 4 ? 2
                                         : 3)
rmsnorm_backward_rows(const Backward<T, W, E> p) {
  constexpr int kRuns = E / W;
  const i64 begin = i64{block_index().x} * p.blocks.rows;
  float dw[kRuns][W] = {};
  int turn = 0;
  for (i64 row = begin + p.team.index(); row < begin + p.blocks.rows; row += p.team.count()) {
    const auto team = p.team.only_if(row < p.rows);
    float x[kRuns][W], dy[kRuns][W], dot[1] = {0};
    team.for_runs([&](int run, int column) {
      load_floats<W>(x[run], p.x.row(row) + column);
      load_floats<W>(dy[run], p.dy.row(row) + column);
    });
    const float rstd = team.cols > 0 ? global_load(p.rstd.row(row)) : 0.f;
    team.for_runs([&](int run, int column) {
      float w[W];
      load_floats<W>(w, p.w + column);
      for (int i = 0; i < W; ++i) {
        dw[run][i] += dy[run][i] * x[run][i] * rstd;
        dy[run][i] *= w[i];
        dot[0] += dy[run][i] * x[run][i];
      }
    });
    team_sums(dot, team.warps, turn++);
    const float along = rstd * rstd * rstd * dot[0] / static_cast<float>(p.team.cols);
    team.for_runs([&](int run, int column) {
      float dx[W];
      for (int i = 0; i < W; ++i) dx[i] = dy[run][i] * rstd - x[run][i] * along;
      store_floats<W>(p.dx.row(row) + column, dx);
    });
  }
  store_team_column_sums(p.blocks.partials + i64{block_index().x} * p.team.cols, dw, p.team);
}

template <class T, int W>
void start_forward(Context& ctx, Tensor y, Tensor rstd, Tensor x, Tensor w, double eps) {
  const auto team = Team<W, kElements>::of(x.cols);
  launch(ctx, {.x = (x.rows + team.count() - 1) / team.count(), .threads = kTeamThreads, .shared_bytes = kTeamSumBytes},
         &rmsnorm_forward_rows<T, W>,
         {rows_of<T>(y), rows_of<T>(x), rows_of<float>(rstd), w.row<float>(), x.rows, static_cast<float>(eps), team});
}

template <class T, int W, int E>
void run_backward(Context& ctx, Tensor dx, Tensor dw, Tensor dy, Tensor x, Tensor w, Tensor rstd) {
  const auto team = Team<W, E>::of(x.cols);
  const RowBlocks blocks = row_blocks(ctx, x.rows, x.cols, kBlockRows);
  launch(ctx, {.x = blocks.count, .threads = kTeamThreads, .shared_bytes = team_shared_bytes(team)},
         &rmsnorm_backward_rows<T, W, E>,
         {rows_of<T>(dx), rows_of<T>(dy), rows_of<T>(x), rows_of<float>(rstd), w.row<float>(), x.rows, blocks, team});
  add_partial_sums(ctx, dw, blocks);
}

// Three numbers per element are held here: the fewer elements per thread, the more CTAs hide each other's barriers.
template <class T, int W>
void start_backward(Context& ctx, Tensor dx, Tensor dw, Tensor dy, Tensor x, Tensor w, Tensor rstd) {
  if (x.cols <= kTeamThreads * kFewElements) return run_backward<T, W, kFewElements>(ctx, dx, dw, dy, x, w, rstd);
  run_backward<T, W, kElements>(ctx, dx, dw, dy, x, w, rstd);
}

}  // namespace

void rmsnorm_forward(Context& ctx, Tensor y, Tensor rstd, Tensor x, Tensor w, double eps) {
  check_shape(y, x.rows, x.cols, x.dtype);
  check_shape(rstd, x.rows, 1, DType::f32);
  check_shape(w, 1, x.cols, DType::f32);
  with_gpu_type(x.dtype, [&]<class T>() {
    if (all_wide(y, x, w)) return start_forward<T, kWide<T>>(ctx, y, rstd, x, w, eps);
    start_forward<T, 1>(ctx, y, rstd, x, w, eps);
  });
}

void rmsnorm_backward(Context& ctx, Tensor dx, Tensor dw, Tensor dy, Tensor x, Tensor w, Tensor rstd) {
  for (const Tensor& t : {dx, dy}) check_shape(t, x.rows, x.cols, x.dtype);
  for (const Tensor& t : {dw, w}) check_shape(t, 1, x.cols, DType::f32);
  check_shape(rstd, x.rows, 1, DType::f32);
  with_gpu_type(x.dtype, [&]<class T>() {
    if (all_wide(dx, dy, x, w)) return start_backward<T, kWide<T>>(ctx, dx, dw, dy, x, w, rstd);
    start_backward<T, 1>(ctx, dx, dw, dy, x, w, rstd);
  });
}

}  // namespace xlstm::gpu
