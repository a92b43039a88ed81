// The real mLSTM kernels in the emulator, against the definition in f64 on the same bf16 inputs.
#include <gtest/gtest.h>

#include <list>

#include "kernels/cuda/emulator/block.h"
#include "kernels/cuda/mlstm/cell_passes.h"
#include "tests/kernels/mlstm_case.h"

namespace xlstm {
namespace {

namespace m = mlstm;
using emulator::LaunchConfig;

// Relative error in the l2 norm.
double l2_error(const Values& got, const Values& want) {
  if (got.size() != want.size()) return 1e300;
  double difference = 0, size = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    if (!(std::isfinite(got[i]))) return 1e300;
    difference += (got[i] - want[i]) * (got[i] - want[i]);
    size += want[i] * want[i];
  }
  return std::sqrt(difference / std::max(size, 1e-300));
}

double rounded(double x) { return static_cast<double>(to_float(to_bf16(static_cast<float>(x)))); }

// Global memory of one launch: registered with the emulator, NaN before it is written.
class Global {
 public:
  m::Matrix matrix(const Values& values, i64 width) {
    auto& memory = halves_.emplace_back(values.size());
    for (std::size_t i = 0; i < values.size(); ++i) memory[i] = to_bf16(static_cast<float>(values[i]));
    ranges_.emplace_back(memory.data(), memory.size() * 2);
    return {memory.data(), width};
  }
  float* floats(const Values& values) {
    auto& memory = floats_.emplace_back(values.begin(), values.end());
    ranges_.emplace_back(memory.data(), memory.size() * 4);
    return memory.data();
  }
  m::Column column(const Values& values, i64 width) { return {floats(values), width}; }

 private:
  std::list<std::vector<bf16>> halves_;
  std::list<std::vector<float>> floats_;
  std::list<emulator::GlobalRange> ranges_;
};

Values read(m::Matrix matrix, std::size_t size) {
  Values out(size);
  for (std::size_t i = 0; i < size; ++i) out[i] = static_cast<double>(to_float(matrix.data[i]));
  return out;
}
Values read(const float* data, std::size_t size) { return Values(data, data + size); }

template <m::Pass kPass>
void run_scan(const m::Scan& s, LaunchConfig config) {
  const int width = m::scan_width(s.dx);
  config.threads = m::kThreads;
  config.grid = {static_cast<unsigned>(m::slices_of(s.du, width)),
                 static_cast<unsigned>(s.shape.sequences * s.shape.heads), 1};
  const auto at_width = [&]<int kWidth>() {
    if (width != kWidth) return;
    config.shared_bytes = m::ScanLayout<kWidth>::kBytes;
    emulator::launch(config, [&] { m::scan<kWidth, kPass>(s); });
  };
  at_width.template operator()<64>();
  at_width.template operator()<128>();
  at_width.template operator()<192>();
  at_width.template operator()<256>();
  at_width.template operator()<384>();
  at_width.template operator()<512>();
}

MlstmResult run_kernels(const MlstmCase& x, LaunchConfig config) {
  const m::Shape shape{.sequences = int(x.B),
                       .tokens = int(x.T),
                       .heads = int(x.H),
                       .qk_dim = int(x.K),
                       .v_dim = int(x.V),
                       .normalize = x.normalize,
                       .eps = float(x.eps)};
  Global global;
  const Values nan_qk(x.q.size(), kNaN), nan_v(x.v.size(), kNaN), nan_gate(x.log_i.size(), kNaN);
  m::CellTensors t;
  t.q = global.matrix(x.q, x.H * x.K);
  t.k = global.matrix(x.k, x.H * x.K);
  t.v = global.matrix(x.v, x.H * x.V);
  t.h = global.matrix(nan_v, x.H * x.V);
  t.log_i = global.column(x.log_i, x.H);
  t.log_f = global.column(x.log_f, x.H);
  t.denominator = global.column(nan_gate, x.H);
  t.max = global.column(nan_gate, x.H);
  if (x.with_first) {
    t.first_c = global.floats(x.c);
    t.first_n = global.floats(x.n);
    t.first_m = global.floats(x.m);
  }
  t.last_c = global.floats(Values(x.c.size(), kNaN));
  t.last_n = global.floats(Values(x.n.size(), kNaN));
  t.last_m = global.floats(Values(x.m.size(), kNaN));
  m::CellGradients d;
  d.dh = global.matrix(x.dh, x.H * x.V);
  d.dq = global.matrix(nan_qk, x.H * x.K);
  d.dk = global.matrix(nan_qk, x.H * x.K);
  d.dv = global.matrix(nan_v, x.H * x.V);
  d.dlog_i = global.column(nan_gate, x.H);
  d.dlog_f = global.column(nan_gate, x.H);
  if (x.with_dlast) d.dlast_c = global.floats(x.dlast);
  d.dfirst_c = global.floats(Values(x.c.size(), kNaN));

  const i64 floats = m::CellWorkspace(shape, true, nullptr).floats;
  const m::CellWorkspace ws(shape, true, global.floats(Values(static_cast<std::size_t>(floats), kNaN)));
  const unsigned heads = static_cast<unsigned>(x.B * x.H);
  config.threads = m::kThreads;
  config.grid = {1, heads, 1};
  config.shared_bytes = m::kGateBytes;
  const m::GateInputs gates = m::gate_inputs(shape, t, true);
  emulator::launch(config, [&] { m::gate_vectors(gates, ws.vectors); });
  run_scan<m::Pass::forward>(m::forward_scan(shape, t, ws), config);

  m::Matrix scaled = d.dh;
  if (x.normalize) {
    scaled = {ws.scaled_gradient, x.H * x.V};
    config.grid = {static_cast<unsigned>((x.B * x.T + 7) / 8), 1, 1};
    const m::ScaledGradient s{d.dh, scaled, t.denominator, shape};
    emulator::launch(config, [&] { m::scale_gradient(s); });
  }
  run_scan<m::Pass::dq>(m::dq_scan(shape, t, d, ws, scaled), config);
  run_scan<m::Pass::dk>(m::dk_scan(shape, t, d, ws, scaled), config);
  run_scan<m::Pass::dv>(m::dv_scan(shape, t, d, ws, scaled), config);
  config.grid = {static_cast<unsigned>(m::inner_anchors(x.T) + 1), heads, 1};
  config.shared_bytes = m::kGradientBytes;
  const m::GateGradients g = m::gate_gradient_inputs(shape, t, d, ws);
  emulator::launch(config, [&] { m::gate_gradients(g); });

  MlstmResult y{.h = read(t.h, x.v.size()), .c = read(t.last_c, x.c.size())};
  if (x.normalize) {
    y.denominator = read(t.denominator.data, x.log_i.size());
    y.max = read(t.max.data, x.log_i.size());
    y.n = read(t.last_n, x.n.size());
    y.m = read(t.last_m, x.m.size());
  }
  y.dq = read(d.dq, x.q.size());
  y.dk = read(d.dk, x.k.size());
  y.dv = read(d.dv, x.v.size());
  y.dlog_i = read(d.dlog_i.data, x.log_i.size());
  y.dlog_f = read(d.dlog_f.data, x.log_i.size());
  y.dfirst = read(d.dfirst_c, x.c.size());
  return y;
}

MlstmCase rounded_case(i64 B, i64 T, i64 H, i64 K, i64 V, bool normalize, std::uint64_t seed, bool with_states,
                       double i_mean = 0) {
  MlstmCase x = random_case(B, T, H, K, V, normalize, seed, with_states, i_mean);
  for (Values* values : {&x.q, &x.k, &x.v, &x.dh})
    for (double& value : *values) value = rounded(value);
  return x;
}

// The CPU's kernels at f64 stand for the definition: tests/kernels holds them to it to 1e-12. Tolerances:
// docs/numerics.md.
void expect_cell(const MlstmCase& x, const LaunchConfig& config = {}) {
  const MlstmResult want = run_mlstm<double>(x), got = run_kernels(x, config);
  constexpr double kHalf = 4e-3, kForgetGate = 3e-2, kFloat = 1e-5;
  EXPECT_LT(l2_error(got.h, want.h), kHalf) << "h";
  EXPECT_LT(l2_error(got.c, want.c), kHalf) << "c";
  EXPECT_LT(l2_error(got.dq, want.dq), kHalf) << "dq";
  EXPECT_LT(l2_error(got.dk, want.dk), kHalf) << "dk";
  EXPECT_LT(l2_error(got.dv, want.dv), kHalf) << "dv";
  EXPECT_LT(l2_error(got.dlog_i, want.dlog_i), kHalf) << "dlog_i";
  EXPECT_LT(l2_error(got.dlog_f, want.dlog_f), kForgetGate) << "dlog_f";
  if (x.with_first) {
    EXPECT_LT(l2_error(got.dfirst, want.dfirst), kHalf) << "dfirst";
  }
  if (!x.normalize) return;
  EXPECT_LT(l2_error(got.n, want.n), kFloat) << "n";
  EXPECT_LT(l2_error(got.m, want.m), kFloat) << "m";
  EXPECT_LT(l2_error(got.max, want.max), kFloat) << "max";
  EXPECT_LT(l2_error(got.denominator, want.denominator), kFloat) << "denominator";
}

class EmulatedMlstm : public testing::TestWithParam<bool> {};
INSTANTIATE_TEST_SUITE_P(Gates, EmulatedMlstm, testing::Values(true, false),
                         [](const auto& p) { return p.param ? "exp" : "sigmoid"; });

TEST_P(EmulatedMlstm, HeadSizes) {
  for (const auto& [K, V] : {std::pair{64, 128}, std::pair{128, 256}, std::pair{192, 384}, std::pair{256, 512}}) {
    SCOPED_TRACE(fmt::format("K {}, V {}", K, V));
    expect_cell(rounded_case(1, 128, 1, K, V, GetParam(), 1, false, -1));
  }
}

TEST_P(EmulatedMlstm, OtherHeadSizes) {
  for (const auto& [K, V] : {std::pair{8, 16}, std::pair{64, 64}, std::pair{320, 64}, std::pair{64, 200}}) {
    SCOPED_TRACE(fmt::format("K {}, V {}", K, V));
    expect_cell(rounded_case(1, 70, 1, K, V, GetParam(), 2, true));
  }
}

TEST_P(EmulatedMlstm, AnyLength) {
  for (const i64 T : {1, 2, 63, 64, 65, 191}) {
    SCOPED_TRACE(fmt::format("T {}", T));
    expect_cell(rounded_case(2, T, 2, 64, 128, GetParam(), 3, T % 2 == 0));
  }
}

TEST_P(EmulatedMlstm, Resets) {
  for (const bool with_states : {false, true}) {
    MlstmCase x = rounded_case(2, 200, 2, 64, 64, GetParam(), 4, with_states);
    for (const i64 r : {0, 5, 63, 64, 65, 66, 130, 200, 263, 391}) x.log_f[r * 2] = x.log_f[r * 2 + 1] = ref::kMinusInf;
    x.log_f[20 * 2] = ref::kMinusInf;  // of one head alone
    expect_cell(x);
  }
}

// More tokens than lie between two anchors of the forget gate's gradient.
TEST_P(EmulatedMlstm, Anchors) {
  for (const bool with_states : {false, true}) {
    MlstmCase x = rounded_case(1, 2100, 1, 64, 64, GetParam(), 5, with_states);
    for (double& f : x.log_f) f *= 0.02;  // long memory
    if (with_states) x.log_f[1500] = ref::kMinusInf;
    expect_cell(x);
  }
}

TEST_P(EmulatedMlstm, AnyScheduleGivesTheSameBits) {
  const MlstmCase x = rounded_case(1, 130, 1, 64, 128, GetParam(), 6, true);
  const MlstmResult want = run_kernels(x, {.seed = 1});
  for (std::uint64_t seed = 2; seed < 6; ++seed)
    for (const auto arrival : {emulator::Arrival::late, emulator::Arrival::immediate}) {
      const MlstmResult got = run_kernels(x, {.seed = seed, .arrival = arrival});
      EXPECT_EQ(got.h, want.h);
      EXPECT_EQ(got.dq, want.dq);
      EXPECT_EQ(got.dk, want.dk);
      EXPECT_EQ(got.dv, want.dv);
      EXPECT_EQ(got.dlog_f, want.dlog_f);
    }
}

}  // namespace
}  // namespace xlstm
