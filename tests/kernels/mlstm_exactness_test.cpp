// What must hold to the bit or to rounding whatever the shape: packed rows, states handed on, threads, instruction
// sets, slices of wide matrices, f32, and gates at their limits.
#include <gtest/gtest.h>

#include <functional>
#include <numeric>

#include "tests/kernels/mlstm_case.h"

namespace xlstm {
namespace {

constexpr double kRounding = 1e-13;  // f64: sums of some hundred terms of size 1

struct Named {
  const char* name;
  const Values& values;
};
std::vector<Named> outputs(const MlstmResult& y) {
  return {{"h", y.h},           {"denominator", y.denominator},
          {"max", y.max},       {"c", y.c},
          {"n", y.n},           {"m", y.m},
          {"dq", y.dq},         {"dk", y.dk},
          {"dv", y.dv},         {"dlog_i", y.dlog_i},
          {"dlog_f", y.dlog_f}, {"dfirst", y.dfirst}};
}

// Each output within its tolerance, relative to its largest element; tolerance 0 means the same bits.
void expect_equal(const MlstmResult& got, const MlstmResult& want, double tolerance, const std::string& what) {
  const auto a = outputs(got), b = outputs(want);
  for (std::size_t i = 0; i < a.size(); ++i)
    EXPECT_LE(worst_error(a[i].values, b[i].values), tolerance) << what << ": " << a[i].name;
}

// Rows [begin, end) of every sequence-long input of a case with B = 1. Keeps the first state only at the start, and the
// gradient of the last state only at the end.
MlstmCase part(const MlstmCase& x, i64 begin, i64 end) {
  MlstmCase y = x;
  y.T = end - begin;
  const auto rows = [&](Values& values, i64 width) {
    values = Values(values.begin() + begin * width, values.begin() + end * width);
  };
  rows(y.q, x.H * x.K), rows(y.k, x.H * x.K), rows(y.v, x.H * x.V), rows(y.dh, x.H * x.V);
  rows(y.log_i, x.H), rows(y.log_f, x.H);
  y.with_first = x.with_first && begin == 0;
  y.with_dlast = x.with_dlast && end == x.T;
  return y;
}

void append(MlstmResult& all, const MlstmResult& y) {
  const auto add = [](Values& to, const Values& from) { to.insert(to.end(), from.begin(), from.end()); };
  add(all.h, y.h), add(all.denominator, y.denominator), add(all.max, y.max);
  add(all.dq, y.dq), add(all.dk, y.dk), add(all.dv, y.dv), add(all.dlog_i, y.dlog_i), add(all.dlog_f, y.dlog_f);
}

TEST(MlstmExactness, PackedEqualsApart) {
  const std::vector<std::vector<i64>> starts = {{1}, {15}, {16}, {17}, {31, 32, 33}, {5, 6, 7, 20, 39}, {0, 25}, {39}};
  for (const bool normalize : {true, false})
    for (const auto& resets : starts) {
      MlstmCase packed = random_case(1, 40, 2, 5, 9, normalize, 21, true);
      for (const i64 r : resets) packed.log_f[r * 2] = packed.log_f[r * 2 + 1] = ref::kMinusInf;
      for (const i64 chunk : {1, 7, 16, 64}) {
        MlstmResult apart{};
        i64 begin = 0;
        for (std::size_t s = 0; s <= resets.size(); ++s) {
          const i64 end = s < resets.size() ? resets[s] : packed.T;
          if (end == begin) continue;
          const MlstmResult y = run_mlstm<double>(part(packed, begin, end), {.chunk = chunk});
          append(apart, y);
          if (begin == 0) apart.dfirst = y.dfirst;
          if (end == packed.T) apart.c = y.c, apart.n = y.n, apart.m = y.m;
          begin = end;
        }
        expect_equal(run_mlstm<double>(packed, {.chunk = chunk}), apart, kRounding,
                     fmt::format("chunk {}, first reset at {}", chunk, resets[0]));
      }
    }
}

// What lies before a reset must not reach what follows it, however large it is.
TEST(MlstmExactness, NothingCrossesAReset) {
  for (const bool normalize : {true, false}) {
    MlstmCase x = random_case(1, 24, 1, 4, 6, normalize, 22, true);
    x.log_f[10] = ref::kMinusInf;
    MlstmCase other = x;
    for (i64 i = 0; i < 10 * 4; ++i) other.k[i] *= 1e30;
    for (i64 i = 0; i < 10 * 6; ++i) other.v[i] *= -1e30;
    for (i64 t = 0; t < 10; ++t) other.log_i[t] += normalize ? 40 : -3;
    for (double& c : other.c) c *= 1e30;
    for (const i64 chunk : {1, 8, 24}) {
      const MlstmResult a = run_mlstm<double>(x, {.chunk = chunk}), b = run_mlstm<double>(other, {.chunk = chunk});
      const auto behind = [](const Values& y, i64 width) { return Values(y.begin() + 10 * width, y.end()); };
      EXPECT_EQ(behind(a.h, 6), behind(b.h, 6));
      EXPECT_EQ(behind(a.dq, 4), behind(b.dq, 4));
      EXPECT_EQ(behind(a.dk, 4), behind(b.dk, 4));
      EXPECT_EQ(behind(a.dv, 6), behind(b.dv, 6));
      EXPECT_EQ(behind(a.dlog_i, 1), behind(b.dlog_i, 1));
      EXPECT_EQ(behind(a.dlog_f, 1), behind(b.dlog_f, 1));
      EXPECT_EQ(a.c, b.c);
    }
  }
}

TEST(MlstmExactness, StatesHandedOnEqualOneRun) {
  for (const bool normalize : {true, false})
    for (const i64 cut : {1, 16, 23}) {
      const MlstmCase whole = random_case(1, 40, 2, 5, 9, normalize, 23, true);
      const MlstmResult want = run_mlstm<double>(whole, {.chunk = 16});
      MlstmCase front = part(whole, 0, cut), back = part(whole, cut, 40);
      const MlstmResult state = run_mlstm<double>(front, {.chunk = 16});
      back.with_first = true, back.c = state.c;
      if (normalize) back.n = state.n, back.m = state.m;
      const MlstmResult y1 = run_mlstm<double>(back, {.chunk = 16});
      front.with_dlast = true, front.dlast = y1.dfirst;
      MlstmResult got = run_mlstm<double>(front, {.chunk = 16});
      append(got, y1);
      got.c = y1.c, got.n = y1.n, got.m = y1.m;
      expect_equal(got, want, kRounding, fmt::format("cut at {}", cut));
    }
}

TEST(MlstmExactness, ThreadsDoNotShow) {
  for (const i64 heads : {2, 20})
    for (const bool normalize : {true, false}) {
      const MlstmCase x = random_case(1, 50, heads, 8, 140, normalize, 24, true);
      const MlstmResult want = run_mlstm<float>(x, {.chunk = 16});
      for (const int threads : {2, 3})
        expect_equal(run_mlstm<float>(x, {.chunk = 16, .threads = threads}), want, 0,
                     fmt::format("{} threads", threads));
    }
}

TEST(MlstmExactness, WorkspaceForTooFewThreadsIsRefused) {
  const MlstmCase x = random_case(1, 4, 1, 2, 2, false, 25, false);
  RunContext run(CpuIsa::baseline);
  Matrix<float> space(1, mlstm_workspace_elements(Device::cpu, DType::f32, x.shape(4), 4, 2, 2, 1, false));
  Matrix<float> q(x.q, 2), k(x.k, 2), v(x.v, 2), i(x.log_i, 1), f(x.log_f, 1), h(4, 2);
  const auto call = [&] {
    ops::mlstm_forward(run.ctx, h.tensor(), {}, {}, {q.tensor(), k.tensor(), v.tensor(), {i.tensor(), f.tensor()}}, {},
                       x.shape(4), space.tensor());
  };
  EXPECT_NO_THROW(call());
  set_threads(2);
  EXPECT_THROW(call(), Error);
}

TEST(MlstmExactness, SlicesOfAFusedProjection) {
  for (const bool normalize : {true, false}) {
    const MlstmCase x = random_case(2, 21, 3, 5, 9, normalize, 26, true);
    expect_equal(run_mlstm<double>(x, {.chunk = 8, .fused = true}), run_mlstm<double>(x, {.chunk = 8}), 0, "fused");
    EXPECT_EQ(run_mlstm_step<double>(x, {.fused = true}).h, run_mlstm_step<double>(x).h);
  }
}

TEST(MlstmExactness, SinglePrecision) {
  for (const CpuIsa isa : usable_isas())
    for (const auto& [normalize, i_mean] : {std::pair{false, 0.0}, {true, -8.74}, {true, -2.0}, {true, 0.0}}) {
      const MlstmCase x = random_case(1, 200, 2, 32, 48, normalize, 28, true, i_mean, 4);
      for (const i64 chunk : {1, 64}) {
        const MlstmResult want = run_mlstm<double>(x, {.chunk = chunk});
        expect_equal(run_mlstm<float>(x, {.chunk = chunk, .isa = isa}), want, f32_tolerance(x),
                     fmt::format("i {} chunk {}", i_mean, chunk));
        expect_equal(run_mlstm_step<float>(x, {.isa = isa}), run_mlstm_step<double>(x), f32_tolerance(x), "step");
      }
    }
}

// The order of every sum is the same in both builds; only the contraction of products and sums may differ.
TEST(MlstmExactness, InstructionSetsAgree) {
  if (best_cpu_isa() < CpuIsa::avx512) GTEST_SKIP() << "no AVX-512 here";
  for (const bool normalize : {true, false}) {
    const MlstmCase x = random_case(1, 70, 2, 33, 50, normalize, 27, true, -4);
    for (const i64 chunk : {16, 64, 70}) {
      const RunOptions avx512{.chunk = chunk, .isa = CpuIsa::avx512}, baseline{.chunk = chunk};
      expect_equal(run_mlstm<double>(x, avx512), run_mlstm<double>(x, baseline), kRounding, "f64");
      expect_equal(run_mlstm<float>(x, avx512), run_mlstm<float>(x, baseline), f32_tolerance(x), "f32");
    }
    expect_equal(run_mlstm_step<double>(x, {.isa = CpuIsa::avx512}), run_mlstm_step<double>(x), kRounding, "step");
  }
}

TEST(MlstmExactness, GatesAtTheirLimits) {
  const double lowest = log_sigmoid(-15), highest = log_sigmoid(15), kNever = -100;
  const auto jump = [](double a, double b) { return [=](i64 t) { return t % 5 == 0 ? b : a; }; };
  const std::vector<std::pair<std::function<double(i64)>, std::function<double(i64)>>> gates = {
      {jump(-15, -15), jump(lowest, lowest)},   {jump(15, 15), jump(highest, highest)},
      {jump(15, 15), jump(lowest, lowest)},     {jump(-15, -15), jump(highest, highest)},
      {jump(kNever, kNever), jump(-0.1, -0.1)}, {jump(-15, 15), jump(highest, lowest)},
      {jump(15, -15), jump(lowest, highest)},   {jump(kNever, 15), jump(lowest, ref::kMinusInf)}};
  for (const bool normalize : {true, false})
    for (std::size_t g = 0; g < gates.size(); ++g) {
      MlstmCase x = random_case(1, 150, 1, 8, 8, normalize, 29, false);
      for (i64 t = 0; t < x.T; ++t) {
        const double i = gates[g].first(t);
        x.log_i[t] = normalize ? i : i < 0 ? i : log_sigmoid(i);
        x.log_f[t] = gates[g].second(t);
      }
      const MlstmResult want = run_reference(x, [](const auto& in) { return ref::mlstm_recurrent_stabilised(in); });
      const MlstmResult recurrent_gradients = run_mlstm<double>(x, {.chunk = 1});
      for (const i64 chunk : {16, 64, 150}) {
        const MlstmResult wide = run_mlstm<double>(x, {.chunk = chunk});
        // log f = -15 sums to 150 * 15: that many units in the last place of an exponent are its error
        EXPECT_LE(worst_error(wide.h, want.h), 1e-11) << "gates " << g << " chunk " << chunk;
        EXPECT_LE(worst_error(wide.dq, recurrent_gradients.dq), 1e-11) << "gates " << g << " chunk " << chunk;
        EXPECT_LE(worst_error(wide.dk, recurrent_gradients.dk), 1e-11) << "gates " << g << " chunk " << chunk;
        EXPECT_LE(worst_error(wide.dv, recurrent_gradients.dv), 1e-11) << "gates " << g << " chunk " << chunk;
        const MlstmResult narrow = run_mlstm<float>(x, {.chunk = chunk});
        for (const Named& y : outputs(narrow)) {
          const bool may_be_empty = y.name == std::string("m");
          for (const double value : y.values)
            ASSERT_TRUE(std::isfinite(value) || may_be_empty || value > 1e30) << y.name;
        }
      }
    }
}

}  // namespace
}  // namespace xlstm
