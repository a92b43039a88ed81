// The error bounds of vec.h's exp and tanh, as docs/numerics.md states them, and their special values. The header is
// compiled here like the baseline's kernels (tests/CMakeLists.txt), but into a namespace of its own.
#define XL_CPU cpu_vec_test
#include "kernels/cpu/vec.h"

#include <gtest/gtest.h>

#include <bit>

namespace xlstm::XL_CPU {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

template <class F>
float one(F f, float x) {
  float y[Vec<float>::kWidth];
  f(Vec<float>(x)).store(y);
  return y[0];
}
const auto kExp = [](Vec<float> x) { return exp(x); };
const auto kTanh = [](Vec<float> x) { return tanh(x); };

// The largest relative error over every `step`-th float of [from, to], which have one sign.
template <class F, class G>
double worst_error(F f, G exact, float from, float to, std::uint32_t step) {
  constexpr i64 kWidth = Vec<float>::kWidth;
  const auto begin = std::bit_cast<std::uint32_t>(from), end = std::bit_cast<std::uint32_t>(to);
  double worst = 0;
  for (std::uint64_t bits = begin; bits <= end; bits += std::uint64_t{step} * kWidth) {
    float x[kWidth], y[kWidth];
    for (i64 i = 0; i < kWidth; ++i)
      x[i] = std::bit_cast<float>(
          static_cast<std::uint32_t>(std::min<std::uint64_t>(bits + std::uint64_t(i) * step, end)));
    f(Vec<float>::load(x)).store(y);
    for (i64 i = 0; i < kWidth; ++i) {
      const double want = exact(double(x[i]));
      worst = std::max(worst, std::fabs(y[i] - want) / std::fabs(want));
    }
  }
  return worst;
}

TEST(Vec, ExpStaysWithinItsBound) {
  const auto exact = [](double x) { return std::exp(x); };
  EXPECT_LE(worst_error(kExp, exact, 1e-30f, 88.72f, 997), 2.4e-7);
  EXPECT_LE(worst_error(kExp, exact, -1e-30f, -87.3f, 997), 2.4e-7);
}

TEST(Vec, TanhStaysWithinItsBound) {
  const auto exact = [](double x) { return std::tanh(x); };
  EXPECT_LE(worst_error(kTanh, exact, 1e-30f, 100.0f, 997), 1.5e-7);
  EXPECT_LE(worst_error(kTanh, exact, -1e-30f, -100.0f, 997), 1.5e-7);
}

TEST(Vec, ExpOfSpecialValues) {
  EXPECT_EQ(one(kExp, -kInf), 0.0f);
  EXPECT_EQ(one(kExp, kInf), kInf);
  EXPECT_EQ(one(kExp, 0.0f), 1.0f);
  EXPECT_EQ(one(kExp, -0.0f), 1.0f);
  EXPECT_EQ(one(kExp, 89.0f), kInf);
  EXPECT_EQ(one(kExp, -104.0f), 0.0f);
  EXPECT_TRUE(std::isnan(one(kExp, kNaN)));
}

TEST(Vec, TanhOfSpecialValues) {
  EXPECT_EQ(one(kTanh, -kInf), -1.0f);
  EXPECT_EQ(one(kTanh, kInf), 1.0f);
  EXPECT_EQ(one(kTanh, 0.0f), 0.0f);
  EXPECT_TRUE(std::isnan(one(kTanh, kNaN)));
}

TEST(Vec, SigmoidOfSpecialValues) {
  const auto f = [](Vec<float> x) { return sigmoid(x); };
  EXPECT_EQ(one(f, -kInf), 0.0f);
  EXPECT_EQ(one(f, kInf), 1.0f);
  EXPECT_EQ(one(f, 0.0f), 0.5f);
  EXPECT_TRUE(std::isnan(one(f, kNaN)));
}

TEST(Vec, SumAndMaxTakeEveryLane) {
  for (i64 lane = 0; lane < Vec<float>::kWidth; ++lane) {
    Vec<float> x(-2.0f);
    x.v[lane] = 5.0f;
    EXPECT_EQ(x.max(), 5.0f) << lane;
    EXPECT_EQ(x.sum(), 5.0f - 2.0f * (Vec<float>::kWidth - 1)) << lane;
  }
}

TEST(Vec, APartialLoadFillsTheRest) {
  const float p[3] = {1, 2, 3};
  const Vec<float> x = Vec<float>::load(p, 3, 7.0f);
  EXPECT_EQ(x.v[2], 3.0f);
  EXPECT_EQ(x.v[3], 7.0f);
  EXPECT_EQ(x.v[Vec<float>::kWidth - 1], 7.0f);
}

}  // namespace
}  // namespace xlstm::XL_CPU
