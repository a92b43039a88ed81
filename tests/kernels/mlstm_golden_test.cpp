// The golden vectors of spec §11: T = 8, K = 2, V = 3, chunks of 4; gates are given as pre-activations.
#include <gtest/gtest.h>

#include <functional>

#include "tests/kernels/mlstm_case.h"

namespace xlstm {
namespace {

constexpr double kDigits = 2e-12;  // 12 decimals are printed

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
double i_pre(i64 t) { return 1.5 * std::sin(1.1 * t) + 0.2; }
double f_pre(i64 t) { return 2 + 1.5 * std::cos(0.8 * t); }

// exp: the published state starts at m = 0, not empty
MlstmCase golden_case(bool normalize) {
  MlstmCase x{.B = 1, .T = 8, .H = 1, .K = 2, .V = 3, .normalize = normalize, .with_first = true};
  for (int t = 0; t < 8; ++t) {
    for (int d = 0; d < 2; ++d) {
      x.q.push_back(std::sin(0.7 * t + 1.3 * d + 0.2));
      x.k.push_back(std::cos(0.5 * t - 0.9 * d + 0.1));
    }
    for (int e = 0; e < 3; ++e) {
      x.v.push_back(std::sin(0.3 * t * (e + 1) + 0.5 * e - 0.4));
      x.dh.push_back(std::cos(0.4 * t + 0.6 * e + 0.3));
    }
    x.log_i.push_back(normalize ? i_pre(t) : log_sigmoid(i_pre(t)));
    x.log_f.push_back(log_sigmoid(f_pre(t)));
  }
  x.c.assign(6, 0), x.n.assign(2, 0), x.m.assign(1, 0), x.dlast.assign(6, 0);
  return x;
}

void expect_near(const Values& got, const Values& want, const char* what) {
  ASSERT_EQ(got.size(), want.size()) << what;
  for (std::size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], want[i], kDigits) << what << "[" << i << "]";
}

Values row(const Values& values, i64 r, i64 width) {
  return Values(values.begin() + r * width, values.begin() + (r + 1) * width);
}

// Through log sigmoid(f), and log sigmoid(i) of the sigmoid input gate.
Values pre_activation_gradient(Values d, double (*pre)(i64)) {
  for (std::size_t t = 0; t < d.size(); ++t) d[t] *= sigmoid(-pre(static_cast<i64>(t)));
  return d;
}

void expect_exponential_forward(const MlstmResult& y) {
  expect_near(y.h,
              {-0.300216992503, 0.076965270612,  0.435303751224,  -0.155369108682, 0.539816702992,  0.914482960621,
               -0.039635472552, 0.675104913667,  0.826083760446,  -0.282712752437, -0.145963765299, 0.424328090544,
               -0.099950929829, -0.776819476107, -0.642475560567, 0.019292920025,  -0.781647445201, -0.840096592410,
               1.973284501485,  -2.526389793864, -2.532526048911, 1.281383677572,  -1.121589433294, 0.075323602767},
              "h");
  expect_near(y.denominator,
              {0.818730753078, 1.241377376079, 1.429525727365, 0.343068057557, 1.420214994619, 2.041201996352,
               0.513085877509, 0.603590569896},
              "denominator");
  expect_near(y.max,
              {0.2, 1.536811040092, 1.412744605729, 1.069826432965, 0.596714367417, 0.288668934169, 0.667312045270,
               1.682252350816},
              "max");
  expect_near(y.c, {-1.315423192413, 1.201464002429, -0.083816967192, -1.064267541745, 1.329361204521, -0.114133728666},
              "c");
  expect_near(y.n, {-0.998035198395, -0.603948093658}, "n");
  expect_near(y.m, {1.682252350816}, "m");
}

void expect_exponential_backward(const MlstmResult& y) {
  expect_near(y.dq,
              {-0.232046626844, -0.162480165858, -0.170962509897, -0.168406165146, -0.498916657645, -0.654789413150,
               -3.388938857048, -4.965232965723, -1.011342264764, -1.571000997858, -0.733459559374, -1.193205009933,
               -1.211115038733, -2.536311643930, 0.385326635618, -0.021484661260},
              "dq");
  expect_near(y.dk,
              {-0.357176834783, -0.060503644972, -0.997560620716, 2.641597007551, -0.099407968585, 2.900583820753,
               0.321330549305, 0.505516639033, 0.120199123971, 0.042666628303, 0.071634253357, -0.003906916376,
               0.375852591646, 0.105035282832, 0.483342436648, -0.060847141158},
              "dk");
  expect_near(y.dv,
              {1.356676603565,  0.869105680236,  0.077931138474,  2.464849773906,  1.922965730665,  0.709334433632,
               1.364037398785,  1.658886693701,  1.374239140037,  0.164618612788,  0.397087076326,  0.490841599837,
               -0.041601296927, -0.024851023059, 0.000580428131,  -0.318622067283, -0.348481045319, -0.256605568363,
               -1.936963912787, -2.030814357711, -1.415242920590, -0.848441958966, -0.720186505406, -0.340349185612},
              "dv");
  expect_near(y.dlog_i,
              {-0.397545733742, 1.700291702570, 2.797674189958, 0.377257753366, -0.045221475890, -0.060879201393,
               -0.437340916933, -0.378431192793},
              "di");
  expect_near(pre_activation_gradient(y.dlog_f, f_pre),
              {0, -0.008603403407, 0.220627531268, 1.519458667005, 2.239482414806, 1.219390047064, 0.318898235235,
               0.000778352091},
              "df");
}

void expect_sigmoid_forward(const MlstmResult& y) {
  expect_near(row(y.h, 0, 3), {-0.135147648524, 0.034647190535, 0.195959188988}, "h 0");
  expect_near(row(y.h, 3, 3), {-0.113527399726, -0.100522391458, 0.119762701203}, "h 3");
  expect_near(row(y.h, 4, 3), {-0.116133641637, -0.502302662853, -0.272325403168}, "h 4");
  expect_near(row(y.h, 7, 3), {1.006008614738, -0.661815218926, -0.202973249497}, "h 7");
  expect_near(y.c, {-1.669587361559, 1.188382148907, 0.312022387467, -1.055498114220, 1.409478370060, 0.015679088476},
              "c");
}

void expect_sigmoid_backward(const MlstmResult& y) {
  expect_near(row(y.dq, 1, 2), {-0.276325790588, -0.243236595051}, "dq 1");
  expect_near(row(y.dq, 7, 2), {0.378456395050, -0.103999532300}, "dq 7");
  expect_near(row(y.dk, 1, 2), {-0.466042019990, 0.626883740577}, "dk 1");
  expect_near(row(y.dk, 7, 2), {0.245997109161, -0.030968149475}, "dk 7");
  expect_near(row(y.dv, 1, 3), {1.353110730493, 0.741699326530, -0.128808991014}, "dv 1");
  expect_near(row(y.dv, 7, 3), {-0.431814492937, -0.366538886209, -0.173220701137}, "dv 7");
  expect_near(pre_activation_gradient(y.dlog_i, i_pre),
              {-0.222930592168, 0.037921016049, 0.168883095846, 0.167001462373, -0.054906013825, -0.055315674577,
               -0.088422666514, -0.030199586791},
              "di");
  expect_near(pre_activation_gradient(y.dlog_f, f_pre),
              {0, -0.018240899911, 0.027977703548, 0.556582528088, 0.871031161256, 0.405033901934, 0.057513498482,
               -0.006892549440},
              "df");
}

// Every chunk gives the printed values, 4 being the one that they were printed for and 8 the parallel form.
void for_ops(bool normalize, const std::function<void(const MlstmResult&)>& expect) {
  for (const CpuIsa isa : usable_isas())
    for (const i64 chunk : {1, 3, 4, 8, 64}) {
      SCOPED_TRACE(fmt::format("{}, chunk {}", name_of(isa), chunk));
      expect(run_mlstm<double>(golden_case(normalize), {.chunk = chunk, .isa = isa}));
    }
}

void for_references(bool normalize, const std::function<void(const MlstmResult&)>& expect) {
  const auto check = [&](const char* form, auto&& f) {
    SCOPED_TRACE(form);
    expect(run_reference(golden_case(normalize), f));
  };
  check("recurrent", [](const auto& in) { return ref::mlstm_recurrent(in); });
  check("stabilised", [](const auto& in) { return ref::mlstm_recurrent_stabilised(in); });
  check("parallel", [](const auto& in) { return ref::mlstm_parallel(in); });
  check("chunkwise", [](const auto& in) { return ref::mlstm_chunkwise(in, 3); });
}

TEST(MlstmGolden, ExponentialForward) {
  for_ops(true, expect_exponential_forward);
  for_references(true, expect_exponential_forward);
}
TEST(MlstmGolden, ExponentialBackward) { for_ops(true, expect_exponential_backward); }
TEST(MlstmGolden, SigmoidForward) {
  for_ops(false, expect_sigmoid_forward);
  for_references(false, expect_sigmoid_forward);
}
TEST(MlstmGolden, SigmoidBackward) { for_ops(false, expect_sigmoid_backward); }

TEST(MlstmGolden, Steps) {
  for (const bool normalize : {true, false})
    for (const CpuIsa isa : usable_isas()) {
      const MlstmCase x = golden_case(normalize);
      const MlstmResult y = run_mlstm_step<double>(x, {.isa = isa});
      const MlstmResult want = run_mlstm<double>(x, {.chunk = 4});
      expect_near(y.h, want.h, "h");
      expect_near(y.c, want.c, "c");
    }
}

// The exact gradient, through the denominator, is what the reference can do too: the proof that a head norm makes the
// official one exact rests on it.
TEST(MlstmGolden, ExactGradientOfTheReference) {
  using Complex = std::complex<double>;
  const MlstmCase x = golden_case(true);
  ref::MlstmInput<Complex> in = head_of<Complex>(x, 0, 0);
  const auto gradient = [&](Complex& at) {
    const Complex before = at;
    at += Complex(0, 1e-100);
    const auto out = ref::mlstm_recurrent(in, ref::Denominator::exact);
    at = before;
    double sum = 0;
    for (std::size_t i = 0; i < x.dh.size(); ++i) sum += x.dh[i] * out.h[i].imag() / 1e-100;
    return sum;
  };
  expect_near({gradient(in.q[2]), gradient(in.q[3])}, {-0.005611867447, 0.005436893971}, "dq 1");
  expect_near({gradient(in.q[10]), gradient(in.q[11])}, {-0.119421015631, 0.065983123803}, "dq 5");
  // the weight of eps depends on m; the printed values hold it constant, and so does the reference
  const Values di{-0.508624454939, 1.000708543366, 1.828318514285,  0.104128802818,
                  -0.086710494159, 0.058663563143, -0.312011557930, -0.073368762812};
  const Values df{0,
                  -0.013649845716,
                  0.086747125347,
                  0.734055298699,
                  1.116736067227,
                  0.762460125211,
                  0.311349752963,
                  0.002976437081};
  for (std::size_t t = 0; t < 8; ++t) {
    EXPECT_NEAR(gradient(in.log_i[t]), di[t], kDigits) << "di " << t;
    EXPECT_NEAR(gradient(in.log_f[t]) * sigmoid(-f_pre(static_cast<i64>(t))), df[t], kDigits) << "df " << t;
  }
}

}  // namespace
}  // namespace xlstm
