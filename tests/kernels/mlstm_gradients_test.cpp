// The gradients of mlstm_backward against the complex step through the definition, whose denominator is held constant
// (spec §5.1); a reset is log f = -inf in the middle of a sequence.
#include <gtest/gtest.h>

#include "tests/kernels/mlstm_case.h"

namespace xlstm {
namespace {

using Complex = std::complex<double>;

// <dh, h> + <dlast, c_last> of one head
Complex loss(const MlstmCase& x, const ref::MlstmInput<Complex>& in, i64 b, i64 head) {
  const auto out = ref::mlstm_recurrent(in);
  Complex sum = 0;
  for (i64 t = 0; t < x.T; ++t)
    for (i64 e = 0; e < x.V; ++e) sum += x.dh[((b * x.T + t) * x.H + head) * x.V + e] * out.h[t * x.V + e];
  if (x.with_dlast)
    for (i64 i = 0; i < x.K * x.V; ++i) sum += x.dlast[(b * x.H + head) * x.K * x.V + i] * out.last.c[i];
  return sum;
}

MlstmResult complex_step(const MlstmCase& x) {
  constexpr double kStep = 1e-100;
  MlstmResult y{};
  y.dq.resize(x.q.size()), y.dk.resize(x.k.size()), y.dv.resize(x.v.size());
  y.dlog_i.resize(x.log_i.size()), y.dlog_f.resize(x.log_f.size()), y.dfirst.resize(x.c.size());
  for (i64 b = 0; b < x.B; ++b)
    for (i64 head = 0; head < x.H; ++head) {
      ref::MlstmInput<Complex> in = head_of<Complex>(x, b, head);
      const auto differentiate = [&](std::vector<Complex>& values, auto&& out) {
        for (std::size_t i = 0; i < values.size(); ++i) {
          const Complex before = values[i];
          values[i] += Complex(0, kStep);
          out(static_cast<i64>(i)) = loss(x, in, b, head).imag() / kStep;
          values[i] = before;
        }
      };
      const auto column = [&](Values& to, i64 width) {
        return [&to, &x, b, head, width](i64 i) -> double& {
          return to[((b * x.T + i / width) * x.H + head) * width + i % width];
        };
      };
      differentiate(in.q, column(y.dq, x.K));
      differentiate(in.k, column(y.dk, x.K));
      differentiate(in.v, column(y.dv, x.V));
      differentiate(in.log_i, column(y.dlog_i, 1));
      differentiate(in.log_f, column(y.dlog_f, 1));
      differentiate(in.first.c, [&](i64 i) -> double& { return y.dfirst[(b * x.H + head) * x.K * x.V + i]; });
    }
  return y;
}

void expect_gradients(const MlstmCase& x, i64 chunk, const MlstmResult& want, double tolerance) {
  for (const CpuIsa isa : usable_isas()) {
    const MlstmResult got = run_mlstm<double>(x, {.chunk = chunk, .isa = isa});
    SCOPED_TRACE(fmt::format("chunk {}, {}, {}", chunk, x.normalize ? "exp" : "sigmoid", name_of(isa)));
    EXPECT_LE(worst_error(got.dq, want.dq), tolerance) << "dq";
    EXPECT_LE(worst_error(got.dk, want.dk), tolerance) << "dk";
    EXPECT_LE(worst_error(got.dv, want.dv), tolerance) << "dv";
    EXPECT_LE(worst_error(got.dlog_i, want.dlog_i), tolerance) << "dlog_i";
    EXPECT_LE(worst_error(got.dlog_f, want.dlog_f), tolerance) << "dlog_f";
    if (x.with_first) {
      EXPECT_LE(worst_error(got.dfirst, want.dfirst), tolerance) << "dfirst";
    }
  }
}

TEST(MlstmGradients, AreThoseOfTheDefinition) {
  for (const bool normalize : {true, false})
    for (const bool with_states : {false, true})
      for (const bool with_resets : {false, true}) {
        MlstmCase x = random_case(2, 13, 2, 3, 5, normalize, 11, with_states);
        if (with_resets)
          for (const i64 r : {3, 4, 9, 13, 20}) x.log_f[r * 2 + r % 2] = ref::kMinusInf;
        const MlstmResult want = complex_step(x);
        for (const i64 chunk : {1, 2, 3, 5, 8, 13, 64}) expect_gradients(x, chunk, want, 1e-12);
      }
}

// One incoming gradient at a time, so that neither hides the other: dh alone is covered above.
TEST(MlstmGradients, OfTheLastStateAlone) {
  for (const bool normalize : {true, false}) {
    MlstmCase x = random_case(1, 11, 2, 4, 3, normalize, 12, true);
    std::fill(x.dh.begin(), x.dh.end(), 0.0);
    const MlstmResult want = complex_step(x);
    for (const i64 chunk : {1, 4, 11}) expect_gradients(x, chunk, want, 1e-12);
  }
}

TEST(MlstmGradients, LargerThanATile) {
  for (const bool normalize : {true, false}) {
    const MlstmCase x = random_case(1, 36, 1, 17, 18, normalize, 13, true);
    const MlstmResult want = complex_step(x);
    for (const i64 chunk : {16, 33, 36}) expect_gradients(x, chunk, want, 1e-12);
  }
}

// More chunks than the backward pass has states of in memory, and segments that end where these do.
TEST(MlstmGradients, OfManyChunks) {
  for (const bool normalize : {true, false})
    for (const bool with_states : {false, true}) {
      MlstmCase x = random_case(1, 70, 1, 2, 3, normalize, 15, with_states);
      for (const i64 r : {31, 32, 33, 64}) x.log_f[r] = ref::kMinusInf;
      const MlstmResult want = complex_step(x);
      for (const i64 chunk : {1, 2, 4}) expect_gradients(x, chunk, want, 1e-12);
    }
}

TEST(MlstmGradients, ForgetGateIsExactlyZeroWhereNothingIsRemembered) {
  for (const bool normalize : {true, false})
    for (const bool with_states : {false, true}) {
      MlstmCase x = random_case(1, 30, 1, 4, 4, normalize, 14, with_states);
      for (const i64 r : {5, 8, 9, 20}) x.log_f[r] = ref::kMinusInf;
      for (const i64 chunk : {1, 4, 8, 30}) {
        const MlstmResult y = run_mlstm<double>(x, {.chunk = chunk});
        for (const i64 r : {5, 8, 9, 20}) EXPECT_EQ(y.dlog_f[r], 0.0) << r;
        if (!with_states)
          EXPECT_EQ(y.dlog_f[0], 0.0);
        else
          EXPECT_NE(y.dlog_f[0], 0.0);
      }
    }
}

}  // namespace
}  // namespace xlstm
