#pragma once
// Inputs of the mLSTM ops as doubles, and runs of the ops on them in f64, f32 or bf16 with every output and the
// workspace filled with NaN beforehand.
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <numeric>
#include <vector>

#include "core/bf16.h"
#include "core/parallel.h"
#include "core/random.h"
#include "kernels/ops.h"
#include "tests/reference/mlstm.h"

namespace xlstm {

using Values = std::vector<double>;
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

struct MlstmCase {
  i64 B = 1, T = 1, H = 1, K = 1, V = 1;
  bool normalize = true;
  double eps = 1e-6;
  bool with_first = false, with_dlast = false;
  Values q{}, k{}, v{}, log_i{}, log_f{}, dh{};  // (B T, H K), .., (B T, H V), (B T, H), .., (B T, H V)
  Values c{}, n{}, m{}, dlast{};                 // (B H K, V), (B H, K), (B H), (B H K, V)

  CellShape shape(i64 chunk) const { return {B, H, chunk, normalize, eps}; }
};

struct MlstmResult {
  Values h{}, denominator{}, max{}, c{}, n{}, m{};
  Values dq{}, dk{}, dv{}, dlog_i{}, dlog_f{}, dfirst{};
};

// The instruction sets that this machine can run.
inline std::vector<CpuIsa> usable_isas() {
  std::vector<CpuIsa> all;
  for (const CpuIsa isa : {CpuIsa::baseline, CpuIsa::avx512})  // amx: the same but in bf16 (tests/tiles)
    if (missing_for(isa).empty()) all.push_back(isa);
  return all;
}

struct RunOptions {
  i64 chunk = 64;
  CpuIsa isa = CpuIsa::baseline;
  int threads = 1;     // a team of threads for such small work costs more than the work
  bool fused = false;  // q, k, v (and their gradients) are column slices of one matrix
};

inline double log_sigmoid(double x) { return std::min(x, 0.0) - std::log1p(std::exp(-std::abs(x))); }

// Gates: pre-activations i ~ i_mean + 1.5 N(0, 1), f ~ f_mean + 1.5 N(0, 1).
inline MlstmCase random_case(i64 B, i64 T, i64 H, i64 K, i64 V, bool normalize, std::uint64_t seed, bool with_states,
                             double i_mean = 0, double f_mean = 2) {
  MlstmCase x{.B = B, .T = T, .H = H, .K = K, .V = V, .normalize = normalize};
  std::uint64_t which = 0;
  const auto fill = [&](Values& y, i64 size, auto&& f) {
    const RandomStream random(seed, RandomUse::test, which++);
    y.resize(size);
    for (i64 i = 0; i < size; ++i) y[i] = f(random.normal(i));
  };
  const auto plain = [](double z) { return z; };
  fill(x.q, B * T * H * K, plain);
  fill(x.k, B * T * H * K, plain);
  fill(x.v, B * T * H * V, plain);
  fill(x.dh, B * T * H * V, plain);
  fill(x.log_i, B * T * H, [&](double z) {
    const double i = i_mean + 1.5 * z;
    return normalize ? i : log_sigmoid(i);
  });
  fill(x.log_f, B * T * H, [&](double z) { return log_sigmoid(f_mean + 1.5 * z); });
  x.with_first = x.with_dlast = with_states;
  fill(x.c, B * H * K * V, plain);
  fill(x.n, B * H * K, plain);
  fill(x.m, B * H, plain);
  fill(x.dlast, B * H * K * V, plain);
  return x;
}

template <class S>
S element(double x) {
  if constexpr (std::is_same_v<S, bf16>)
    return to_bf16(static_cast<float>(x));
  else
    return static_cast<S>(x);
}
template <class S>
double number(S x) {
  if constexpr (std::is_same_v<S, bf16>)
    return static_cast<double>(to_float(x));
  else
    return static_cast<double>(x);
}
// Of gates, states and statistics beside activations of type S
template <class S>
using StatOf = std::conditional_t<std::is_same_v<S, bf16>, float, S>;

// Row-major storage of type S that can be handed to an op and read back.
template <class S>
class Matrix {
 public:
  Matrix(i64 rows, i64 cols, double value = kNaN) : data_(rows * cols, element<S>(value)), rows_(rows), cols_(cols) {}
  Matrix(const Values& values, i64 cols) : Matrix(static_cast<i64>(values.size()) / cols, cols) {
    std::transform(values.begin(), values.end(), data_.begin(), element<S>);
  }
  Tensor tensor() { return make_tensor(data_.data(), dtype_of<S>::value, rows_, cols_); }
  Values values() const {
    Values all(data_.size());
    std::transform(data_.begin(), data_.end(), all.begin(), number<S>);
    return all;
  }

 private:
  std::vector<S> data_;
  i64 rows_, cols_;
};

template <class S>
void write(Tensor t, const Values& values) {
  for (i64 r = 0; r < t.rows; ++r)
    for (i64 c = 0; c < t.cols; ++c) t.row<S>(r)[c] = element<S>(values[r * t.cols + c]);
}
template <class S>
Values read(Tensor t) {
  Values values;
  for (i64 r = 0; r < t.rows; ++r)
    for (i64 c = 0; c < t.cols; ++c) values.push_back(number(t.row<S>(r)[c]));
  return values;
}

// q, k, v in matrices of their own, or side by side in one with a column of 7s behind each.
template <class S>
struct Projections {
  Projections(const MlstmCase& x, bool fused)
      : width{x.H * x.K, x.H * x.K, x.H * x.V}, whole(fused ? x.B * x.T : 0, width[0] + width[1] + width[2] + 3, 7) {
    for (int part = 0, at = 0; part < 3; at += width[part++] + 1)
      if (fused) {
        tensor[part] = whole.tensor().slice_cols(at, at + width[part]);
        write<S>(tensor[part], Values(x.B * x.T * width[part], kNaN));
      } else {
        own.emplace_back(x.B * x.T, width[part]);
      }
    for (std::size_t part = 0; part < own.size(); ++part) tensor[part] = own[part].tensor();
  }
  bool sentinels_stand() {
    const Tensor t = whole.tensor();
    for (i64 r = 0; r < t.rows; ++r)
      for (int part = 0, at = width[0]; part < 3; at += (++part < 3 ? width[part] + 1 : 0))
        if (number(t.row<S>(r)[at]) != 7) return false;
    return true;
  }
  i64 width[3];
  Matrix<S> whole;
  std::vector<Matrix<S>> own;
  Tensor tensor[3];
};

// Everything one call of an op needs besides its tensors.
struct RunContext {
  std::byte byte{};
  Arena scratch{"scratch", &byte, 1};
  Context ctx;
  int threads_before = max_threads();

  explicit RunContext(CpuIsa isa, int threads = 1) {
    ctx.isa = isa;
    ctx.scratch = &scratch;
    set_threads(threads);
  }
  ~RunContext() { set_threads(threads_before); }
};

// mlstm_forward and then mlstm_backward.
template <class S>
MlstmResult run_mlstm(const MlstmCase& x, RunOptions options = {}) {
  using Stat = StatOf<S>;
  RunContext run(options.isa, options.threads);
  const i64 rows = x.B * x.T, heads = x.B * x.H;
  Projections<S> in(x, options.fused), din(x, options.fused);
  write<S>(in.tensor[0], x.q);
  write<S>(in.tensor[1], x.k);
  write<S>(in.tensor[2], x.v);
  Matrix<S> dh(x.dh, x.H * x.V), h(rows, x.H * x.V);
  Matrix<Stat> log_i(x.log_i, x.H), log_f(x.log_f, x.H), dlog_i(rows, x.H), dlog_f(rows, x.H);
  Matrix<Stat> denominator(rows, x.H), max(rows, x.H), c(heads * x.K, x.V), n(heads, x.K), m(heads, 1);
  Matrix<Stat> c0(x.c, x.V), n0(x.n, x.K), m0(x.m, 1), dc0(heads * x.K, x.V), dlast(x.dlast, x.V);
  CellState first, last{c.tensor(), {}, {}}, dlast_state, dfirst{dc0.tensor(), {}, {}};
  CellStats stats;
  if (x.with_first) first.c = c0.tensor();
  if (x.with_dlast) dlast_state.c = dlast.tensor();
  if (x.normalize) {
    last = {c.tensor(), n.tensor(), m.tensor()};
    stats = {denominator.tensor(), max.tensor()};
    if (x.with_first) first = {c0.tensor(), n0.tensor(), m0.tensor()};
  }
  const CellInputs inputs{in.tensor[0], in.tensor[1], in.tensor[2], {log_i.tensor(), log_f.tensor()}};
  const CellInputs gradients{din.tensor[0], din.tensor[1], din.tensor[2], {dlog_i.tensor(), dlog_f.tensor()}};
  const CellShape shape = x.shape(options.chunk);
  const auto workspace = [&](bool backward) {
    return Matrix<Stat>(
        1, mlstm_workspace_elements(Device::cpu, dtype_of<S>::value, shape, x.T, x.K, x.V, max_threads(), backward));
  };
  Matrix<Stat> forward_space = workspace(false), backward_space = workspace(true);
  ops::mlstm_forward(run.ctx, h.tensor(), stats, last, inputs, first, shape, forward_space.tensor());
  ops::mlstm_backward(run.ctx, gradients, dfirst, dh.tensor(), dlast_state, inputs, stats, first, shape,
                      backward_space.tensor());
  XL_CHECK(din.sentinels_stand(), "a gradient was written outside its columns");
  MlstmResult y{h.values(),
                {},
                {},
                c.values(),
                {},
                {},
                read<S>(din.tensor[0]),
                read<S>(din.tensor[1]),
                read<S>(din.tensor[2]),
                dlog_i.values(),
                dlog_f.values(),
                dc0.values()};
  if (!x.normalize) return y;
  y.denominator = denominator.values();
  y.max = max.values();
  y.n = n.values();
  y.m = m.values();
  return y;
}

// mlstm_step over all tokens; only h and the state are filled in.
template <class S>
MlstmResult run_mlstm_step(const MlstmCase& x, RunOptions options = {}) {
  RunContext run(options.isa, options.threads);
  Projections<S> in(x, options.fused);
  write<S>(in.tensor[0], x.q);
  write<S>(in.tensor[1], x.k);
  write<S>(in.tensor[2], x.v);
  const double empty = -std::numeric_limits<double>::infinity();
  Matrix<S> log_i(x.log_i, x.H), log_f(x.log_f, x.H), h(x.B * x.T, x.H * x.V);
  Matrix<S> c(x.B * x.H * x.K, x.V, 0), n(x.B * x.H, x.K, 0), m(x.B * x.H, 1, empty);
  if (x.with_first) c = Matrix<S>(x.c, x.V), n = Matrix<S>(x.n, x.K), m = Matrix<S>(x.m, 1);
  CellState state{c.tensor(), {}, {}};
  if (x.normalize) state = {c.tensor(), n.tensor(), m.tensor()};
  const CellInputs inputs{in.tensor[0], in.tensor[1], in.tensor[2], {log_i.tensor(), log_f.tensor()}};
  ops::mlstm_step(run.ctx, h.tensor(), state, inputs, x.shape(1));
  MlstmResult y{.h = h.values(), .c = c.values()};
  if (x.normalize) y.n = n.values(), y.m = m.values();
  return y;
}

// One head of one sequence, for the references.
template <class S>
ref::MlstmInput<S> head_of(const MlstmCase& x, i64 b, i64 head) {
  ref::MlstmInput<S> in{.T = x.T, .K = x.K, .V = x.V, .normalize = x.normalize, .eps = x.eps};
  const auto columns = [&](const Values& from, i64 width) {
    std::vector<S> to;
    for (i64 r = b * x.T; r < (b + 1) * x.T; ++r)
      for (i64 j = 0; j < width; ++j) to.push_back(from[(r * x.H + head) * width + j]);
    return to;
  };
  in.q = columns(x.q, x.K), in.k = columns(x.k, x.K), in.v = columns(x.v, x.V);
  in.log_i = columns(x.log_i, 1), in.log_f = columns(x.log_f, 1);
  if (!x.with_first) return in;
  const i64 task = b * x.H + head;
  in.first.c.assign(x.c.begin() + task * x.K * x.V, x.c.begin() + (task + 1) * x.K * x.V);
  in.first.n.assign(x.n.begin() + task * x.K, x.n.begin() + (task + 1) * x.K);
  in.first.m = x.m[task];
  return in;
}

// The references of all heads of all sequences, laid out like the ops' outputs.
template <class F>
MlstmResult run_reference(const MlstmCase& x, F&& form) {
  MlstmResult y;
  y.h.resize(x.B * x.T * x.H * x.V);
  y.denominator.resize(x.B * x.T * x.H), y.max.resize(x.B * x.T * x.H);
  for (i64 b = 0; b < x.B; ++b)
    for (i64 head = 0; head < x.H; ++head) {
      const ref::MlstmOutput<double> out = form(head_of<double>(x, b, head));
      for (i64 t = 0; t < x.T; ++t) {
        const i64 at = (b * x.T + t) * x.H + head;
        std::copy_n(&out.h[t * x.V], x.V, &y.h[at * x.V]);
        y.denominator[at] = out.denominator[t], y.max[at] = out.max[t];
      }
      y.c.insert(y.c.end(), out.last.c.begin(), out.last.c.end());
      y.n.insert(y.n.end(), out.last.n.begin(), out.last.n.end());
      y.m.push_back(out.last.m);
    }
  if (!x.normalize) y.denominator.clear(), y.max.clear(), y.n.clear(), y.m.clear();
  return y;
}

// Largest difference relative to the largest element; infinite where only one of both is finite.
inline double worst_error(const Values& got, const Values& want) {
  if (got.size() != want.size()) return std::numeric_limits<double>::infinity();
  double difference = 0, size = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    if (got[i] == want[i]) continue;
    if (!std::isfinite(got[i]) || !std::isfinite(want[i])) return std::numeric_limits<double>::infinity();
    difference = std::max(difference, std::abs(got[i] - want[i]));
  }
  for (const double w : want)
    if (std::isfinite(w)) size = std::max(size, std::abs(w));
  return difference == 0 ? 0 : difference / std::max(size, 1e-300);
}

// By how much the denominators magnify relative errors: the largest sum_j |P_ij| / N_i.
inline double condition(const MlstmCase& x) {
  double worst = 1;
  for (i64 head = 0; x.normalize && head < x.H; ++head) {
    const auto in = head_of<double>(x, 0, head);
    const auto out = ref::mlstm_recurrent(in);
    for (i64 t = 0; t < x.T; ++t) {
      double sum = 0;
      for (i64 j = 0; j <= t; ++j) {
        const double q_k = std::inner_product(&in.q[t * x.K], &in.q[t * x.K] + x.K, &in.k[j * x.K], 0.0);
        sum += std::abs(q_k) / std::sqrt(double(x.K)) * std::exp(ref::log_weight(in, t, j) - out.max[t]);
      }
      worst = std::max(worst, sum / out.denominator[t]);
    }
  }
  return worst;
}

// The same with activations that bf16 holds
inline MlstmCase rounded_case(i64 B, i64 T, i64 H, i64 K, i64 V, bool normalize, std::uint64_t seed, bool with_states,
                              double i_mean = 0) {
  MlstmCase x = random_case(B, T, H, K, V, normalize, seed, with_states, i_mean);
  for (Values* values : {&x.q, &x.k, &x.v, &x.dh})
    for (double& value : *values) value = number(element<bf16>(value));
  return x;
}

// Relative error in the l2 norm.
inline double l2_error(const Values& got, const Values& want) {
  if (got.size() != want.size()) return 1e300;
  double difference = 0, size = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    if (!(std::isfinite(got[i]))) return 1e300;
    difference += (got[i] - want[i]) * (got[i] - want[i]);
    size += want[i] * want[i];
  }
  return std::sqrt(difference / std::max(size, 1e-300));
}

// Of a kernel in bf16: docs/numerics.md, "The mLSTM cell"
inline void expect_bf16_cell(const MlstmCase& x, const MlstmResult& got) {
  constexpr double kOutput = 4e-3, kForgetGate = 3e-2, kStatistic = 1e-5;
  const MlstmResult want = run_mlstm<double>(x);
  EXPECT_LT(l2_error(got.h, want.h), kOutput) << "h";
  EXPECT_LT(l2_error(got.c, want.c), kOutput) << "c";
  EXPECT_LT(l2_error(got.dq, want.dq), kOutput) << "dq";
  EXPECT_LT(l2_error(got.dk, want.dk), kOutput) << "dk";
  EXPECT_LT(l2_error(got.dv, want.dv), kOutput) << "dv";
  EXPECT_LT(l2_error(got.dlog_i, want.dlog_i), kOutput) << "dlog_i";
  EXPECT_LT(l2_error(got.dlog_f, want.dlog_f), kForgetGate) << "dlog_f";
  if (x.with_first) {
    EXPECT_LT(l2_error(got.dfirst, want.dfirst), kOutput) << "dfirst";
  }
  if (!x.normalize) return;
  EXPECT_LT(l2_error(got.n, want.n), kStatistic) << "n";
  EXPECT_LT(l2_error(got.m, want.m), kStatistic) << "m";
  EXPECT_LT(l2_error(got.max, want.max), kStatistic) << "max";
  EXPECT_LT(l2_error(got.denominator, want.denominator), kStatistic) << "denominator";
}

// docs/numerics.md, "The mLSTM cell"
inline double f32_tolerance(const MlstmCase& x) {
  return 0x1p-24 * (48 + 8 * std::sqrt(double(x.K + x.V + x.T))) * condition(x);
}

}  // namespace xlstm
