// Logarithms of the input and forget gates: two numbers per token and head, one thread for both.
#include <algorithm>
#include <cmath>

#include "kernels/cuda/activations.cuh"
#include "kernels/cuda/column_sums.cuh"
#include "kernels/cuda/launch.h"
#include "kernels/ops.h"

namespace xlstm::gpu {

using namespace dialect;

namespace {

constexpr int kThreads = 256;
constexpr i64 kBlockRows = 128;

struct GateRows {
  Rows<float> log_i, log_f, pre, dpre;
  Rows<std::int32_t> starts;
  const float* bias;
  i64 rows;
  int heads;
  bool exponential;
  float cap;
};

GateRows gate_rows(const Gates& log, const Tensor& dpre, const Tensor& pre, const Tensor& bias, const Tensor& starts,
                   InputGate gate, double cap) {
  XL_CHECK(pre.cols % 2 == 0, "a row holds input and forget gates, but has {} columns", pre.cols);
  for (const Tensor& t : {log.i, log.f}) check_shape(t, pre.rows, pre.cols / 2, DType::f32);
  check_shape(pre, pre.rows, pre.cols, DType::f32);
  check_shape(bias, 1, pre.cols, DType::f32);
  check_shape(starts, pre.rows, 1, DType::i32);
  return {.log_i = rows_of<float>(log.i),
          .log_f = rows_of<float>(log.f),
          .pre = rows_of<float>(pre),
          .dpre = rows_of<float>(dpre),
          .starts = rows_of<std::int32_t>(starts),
          .bias = bias.row<float>(),
          .rows = pre.rows,
          .heads = static_cast<int>(pre.cols / 2),
          .exponential = gate == InputGate::exp,
          .cap = static_cast<float>(cap)};
}

XL_DEVICE float log_sigmoid(float x) { return fminf(x, 0.f) - log1pf(expf(-fabsf(x))); }

// tanh((pre + bias) / cap)
XL_DEVICE float capped(const GateRows& p, i64 row, int column) {
  return tanhf((global_load(p.pre.row(row) + column) + global_load(p.bias + column)) / p.cap);
}

XL_KERNEL(kThreads, 4)
gate_logarithms(const GateRows p) {
  const i64 task = i64{block_index().x} * kThreads + thread_index(), row = task / p.heads;
  const int head = static_cast<int>(task % p.heads);
  if (row >= p.rows) return;
  const float i = p.cap * capped(p, row, head), f = p.cap * capped(p, row, p.heads + head);
  const bool start = global_load(p.starts.row(row)) != 0;
  global_store(p.log_i.row(row) + head, p.exponential ? i : log_sigmoid(i));
  global_store(p.log_f.row(row) + head, start ? -INFINITY : log_sigmoid(f));
}

// d log sigmoid(x) / dx = sigmoid(-x)
XL_DEVICE float gate_slope(const GateRows& p, i64 row, int column) {
  const float x = capped(p, row, column), inner = 1.f - x * x;
  if (column < p.heads && p.exponential) return inner;
  return sigmoid(-p.cap * x) * inner;
}

struct GateGradients {
  GateRows rows;  // log: its gradients
  RowBlocks blocks;
  int columns;  // that a CTA takes: its threads are rows x columns
};

XL_KERNEL(kThreads, 4)
gate_preactivation_gradients(const GateGradients g) {
  const GateRows& p = g.rows;
  const int lanes = kThreads / g.columns, lane = thread_index() / g.columns;
  const int column = static_cast<int>(block_index().y) * g.columns + thread_index() % g.columns;
  const bool inside = lane < lanes && column < 2 * p.heads;
  const i64 begin = i64{block_index().x} * g.blocks.rows;
  const i64 end = begin + g.blocks.rows < p.rows ? begin + g.blocks.rows : p.rows;
  float dbias = 0;
  for (i64 row = begin + lane; inside && row < end; row += lanes) {
    const bool forget = column >= p.heads;
    float d = 0;
    if (!forget || global_load(p.starts.row(row)) == 0)
      d = gate_slope(p, row, column) *
          global_load(forget ? p.log_f.row(row) + (column - p.heads) : p.log_i.row(row) + column);
    global_store(p.dpre.row(row) + column, d);
    dbias += d;
  }
  const std::uint32_t mine = shared_begin() + static_cast<std::uint32_t>(thread_index()) * kFloat;
  shared_store(mine, dbias);
  sync_cta();
  if (lane == 0 && inside)
    global_store(g.blocks.partials + i64{block_index().x} * g.blocks.columns + column,
                 shared_column_sum(mine, lanes, g.columns));
}

}  // namespace

void gates_forward(Context& ctx, Gates log, Tensor pre, Tensor bias, Tensor starts, InputGate gate, double cap) {
  const GateRows p = gate_rows(log, {}, pre, bias, starts, gate, cap);
  launch(ctx, {.x = (p.rows * p.heads + kThreads - 1) / kThreads, .threads = kThreads}, &gate_logarithms, p);
}

void gates_backward(Context& ctx, Tensor dpre, Tensor dbias, Gates dlog, Tensor pre, Tensor bias, Tensor starts,
                    InputGate gate, double cap) {
  check_shape(dpre, pre.rows, pre.cols, DType::f32);
  check_shape(dbias, 1, pre.cols, DType::f32);
  const RowBlocks blocks = row_blocks(ctx, pre.rows, pre.cols, kBlockRows);
  const GateGradients g{.rows = gate_rows(dlog, dpre, pre, bias, starts, gate, cap),
                        .blocks = blocks,
                        .columns = static_cast<int>(std::min<i64>(pre.cols, kThreads))};
  launch(ctx,
         {.x = blocks.count,
          .y = (pre.cols + g.columns - 1) / g.columns,
          .threads = kThreads,
          .shared_bytes = kThreads * static_cast<int>(kFloat)},
         &gate_preactivation_gradients, g);
  add_partial_sums(ctx, dbias, blocks);
}

}  // namespace xlstm::gpu
