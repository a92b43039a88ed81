// Per-head LayerNorm or RMSNorm without bias, and the sigmoid output gate. Forward reads h and o and writes y, backward
// reads dy, h and o and writes dh and do, each once; the weights come from the caches.
#include <algorithm>
#include <cmath>

#include "kernels/cuda/activations.cuh"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/row_teams.cuh"
#include "kernels/ops.h"

namespace xlstm::gpu {

using namespace dialect;

namespace {

constexpr int kElements = 16;  // per thread: a warp holds a head of 512
constexpr i64 kBlockRows = 64;
static_assert(kBlockRows % kTeamWarps == 0);  // whole steps of any number of teams

void check_head_norm(const Tensor& h, const Tensor& o, const Tensor& w, const Tensor& mean, const Tensor& rstd) {
  check_shape(h, h.rows, h.cols, h.dtype);
  check_shape(o, h.rows, h.cols, h.dtype);
  check_shape(w, 1, h.cols, DType::f32);
  XL_CHECK(mean.cols > 0 && h.cols % mean.cols == 0, "{} columns do not divide into {} heads", h.cols, mean.cols);
  for (const Tensor& t : {mean, rstd}) check_shape(t, h.rows, mean.cols, DType::f32);
}

template <class T, int W>
struct Forward {
  Rows<T> y, h, o;
  Rows<float> mean, rstd;
  const float* w;
  i64 rows;
  int heads;
  float eps;
  bool centred;             // the mean is taken away
  Team<W, kElements> team;  // of one head
};

// A team takes one head of one row.
template <class T, int W>
XL_KERNEL(kTeamThreads, 3)
head_norm_gate_forward_heads(const Forward<T, W> p) {
  constexpr int kRuns = kElements / W;
  const i64 task = i64{block_index().x} * p.team.count() + p.team.index(), row = task / p.heads;
  const int head = static_cast<int>(task % p.heads), at = head * p.team.cols;
  const auto team = p.team.only_if(row < p.rows);
  const float inverse = 1.f / static_cast<float>(p.team.cols);
  float x[kRuns][W], gate[kRuns][W], sum[1] = {0}, squares[1] = {0};
  team.for_runs([&](int run, int column) {
    load_floats<W>(x[run], p.h.row(row) + at + column);
    load_floats<W>(gate[run], p.o.row(row) + at + column);
  });
  team.for_runs([&](int run, int) {
    for (int i = 0; i < W; ++i) sum[0] += x[run][i];
  });
  team_sums(sum, team.warps, 0);
  const float mean = p.centred ? sum[0] * inverse : 0.f;
  team.for_runs([&](int run, int) {
    for (int i = 0; i < W; ++i) {
      x[run][i] -= mean;
      squares[0] += x[run][i] * x[run][i];
    }
  });
  team_sums(squares, team.warps, 1);
  const float rstd = 1.f / sqrtf(squares[0] * inverse + p.eps);
  team.for_runs([&](int run, int column) {
    float w[W], y[W];
    load_floats<W>(w, p.w + at + column);
    for (int i = 0; i < W; ++i) y[i] = sigmoid(gate[run][i]) * (x[run][i] * rstd) * w[i];
    store_floats<W>(p.y.row(row) + at + column, y);
    if (column != 0) return;
    global_store(p.mean.row(row) + head, mean);
    global_store(p.rstd.row(row) + head, rstd);
  });
}

template <class T, int W>
struct Backward {
  Rows<T> dh, d_o, dy, h, o;
  Rows<float> mean, rstd;
  const float* w;
  i64 rows;
  bool centred;
  RowBlocks blocks;
  Team<W, kElements> team;
};

// With s = sigmoid(o) and e = dy s w, the gradient of x^:  dh = rstd (e - mean(e) - x^ mean(e x^)),
// without mean(e) where no mean was taken away; do = dy w x^ s (1 - s), and this block's part of dw = sum of dy s x^. A
// CTA takes one head of a block of rows.
template <class T, int W>
XL_KERNEL(kTeamThreads, 2)
head_norm_gate_backward_heads(const Backward<T, W> p) {
  constexpr int kRuns = kElements / W;
  const int head = static_cast<int>(block_index().y), at = head * p.team.cols;
  const i64 begin = i64{block_index().x} * p.blocks.rows;
  const float inverse = 1.f / static_cast<float>(p.team.cols);
  float dw[kRuns][W] = {};
  int turn = 0;
  for (i64 row = begin + p.team.index(); row < begin + p.blocks.rows; row += p.team.count()) {
    const auto team = p.team.only_if(row < p.rows);
    float x[kRuns][W], e[kRuns][W], open[kRuns][W], sums[2] = {0, 0};
    team.for_runs([&](int run, int column) {
      load_floats<W>(x[run], p.h.row(row) + at + column);
      load_floats<W>(e[run], p.dy.row(row) + at + column);
      load_floats<W>(open[run], p.o.row(row) + at + column);
    });
    const float mean = team.cols > 0 ? global_load(p.mean.row(row) + head) : 0.f;
    const float rstd = team.cols > 0 ? global_load(p.rstd.row(row) + head) : 0.f;
    team.for_runs([&](int run, int column) {
      float w[W];
      load_floats<W>(w, p.w + at + column);
      for (int i = 0; i < W; ++i) {
        open[run][i] = sigmoid(open[run][i]);
        x[run][i] = (x[run][i] - mean) * rstd;
        e[run][i] *= open[run][i];
        dw[run][i] += e[run][i] * x[run][i];
        e[run][i] *= w[i];
        sums[0] += e[run][i];
        sums[1] += e[run][i] * x[run][i];
      }
    });
    team_sums(sums, team.warps, turn++);
    const float mean_e = p.centred ? sums[0] * inverse : 0.f, mean_dot = sums[1] * inverse;
    team.for_runs([&](int run, int column) {
      float dh[W], d_o[W];
      for (int i = 0; i < W; ++i) {
        dh[i] = rstd * (e[run][i] - mean_e - x[run][i] * mean_dot);
        d_o[i] = e[run][i] * x[run][i] * (1.f - open[run][i]);
      }
      store_floats<W>(p.dh.row(row) + at + column, dh);
      store_floats<W>(p.d_o.row(row) + at + column, d_o);
    });
  }
  store_team_column_sums(p.blocks.partials + i64{block_index().x} * p.blocks.columns + at, dw, p.team);
}

template <class T, int W>
void start_forward(Context& ctx, Tensor y, Tensor mean, Tensor rstd, Tensor h, Tensor o, Tensor w, double eps,
                   HeadNorm norm) {
  const i64 heads = mean.cols;
  const auto team = Team<W, kElements>::of(h.cols / heads);
  launch(
      ctx,
      {.x = (h.rows * heads + team.count() - 1) / team.count(), .threads = kTeamThreads, .shared_bytes = kTeamSumBytes},
      &head_norm_gate_forward_heads<T, W>,
      {rows_of<T>(y), rows_of<T>(h), rows_of<T>(o), rows_of<float>(mean), rows_of<float>(rstd), w.row<float>(), h.rows,
       static_cast<int>(heads), static_cast<float>(eps), norm == HeadNorm::layernorm, team});
}

template <class T, int W>
void start_backward(Context& ctx, Tensor dh, Tensor d_o, Tensor dw, Tensor dy, Tensor h, Tensor o, Tensor w,
                    Tensor mean, Tensor rstd, HeadNorm norm) {
  const i64 heads = mean.cols;
  const auto team = Team<W, kElements>::of(h.cols / heads);
  const RowBlocks blocks = row_blocks(ctx, h.rows, h.cols, kBlockRows);
  launch(ctx, {.x = blocks.count, .y = heads, .threads = kTeamThreads, .shared_bytes = team_shared_bytes(team)},
         &head_norm_gate_backward_heads<T, W>,
         {rows_of<T>(dh), rows_of<T>(d_o), rows_of<T>(dy), rows_of<T>(h), rows_of<T>(o), rows_of<float>(mean),
          rows_of<float>(rstd), w.row<float>(), h.rows, norm == HeadNorm::layernorm, blocks, team});
  add_partial_sums(ctx, dw, blocks);
}

}  // namespace

void head_norm_gate_forward(Context& ctx, Tensor y, Tensor mean, Tensor rstd, Tensor h, Tensor o, Tensor w, double eps,
                            HeadNorm norm) {
  check_head_norm(h, o, w, mean, rstd);
  check_shape(y, h.rows, h.cols, h.dtype);
  with_gpu_type(h.dtype, [&]<class T>() {
    const bool wide_heads = h.cols / mean.cols % kWide<T> == 0;
    if (wide_heads && all_wide(y, h, o, w)) return start_forward<T, kWide<T>>(ctx, y, mean, rstd, h, o, w, eps, norm);
    start_forward<T, 1>(ctx, y, mean, rstd, h, o, w, eps, norm);
  });
}

void head_norm_gate_backward(Context& ctx, Tensor dh, Tensor d_o, Tensor dw, Tensor dy, Tensor h, Tensor o, Tensor w,
                             Tensor mean, Tensor rstd, HeadNorm norm) {
  check_head_norm(h, o, w, mean, rstd);
  for (const Tensor& t : {dh, d_o, dy}) check_shape(t, h.rows, h.cols, h.dtype);
  check_shape(dw, 1, h.cols, DType::f32);
  with_gpu_type(h.dtype, [&]<class T>() {
    const bool wide_heads = h.cols / mean.cols % kWide<T> == 0;
    if (wide_heads && all_wide(dh, d_o, dy, h, o, w))
      return start_backward<T, kWide<T>>(ctx, dh, d_o, dw, dy, h, o, w, mean, rstd, norm);
    start_backward<T, 1>(ctx, dh, d_o, dw, dy, h, o, w, mean, rstd, norm);
  });
}

}  // namespace xlstm::gpu
