// AdamW's copy in bf16, an update that is not applied, and rows that are not aligned.
#include <gmock/gmock.h>

#include <cmath>

#include "tests/device/device.h"

namespace xlstm::test {
namespace {

constexpr AdamWConstants kConstants{.beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .weight_decay = 0.1};
constexpr i64 kSize = 1031;

struct Arrays {
  std::vector<float> w, m, v;
  std::vector<std::uint16_t> rounded;
  bool operator==(const Arrays&) const = default;
};

// What one update makes of the same numbers, which lie `offset` elements behind an aligned address.
Arrays updated(double applied, i64 offset) {
  Arrays a;
  std::vector<float> g;
  for (i64 i = 0; i < kSize; ++i) {
    a.w.push_back(std::sin(static_cast<float>(i)));
    a.m.push_back(std::cos(static_cast<float>(i)) * 0.1f);
    a.v.push_back(0.01f + static_cast<float>(i % 7));
    g.push_back(std::sin(static_cast<float>(3 * i)));
  }
  std::vector<double> scalars(kUpdateScalars);
  const auto set = [&](UpdateScalar s, double x) { scalars[static_cast<std::size_t>(s)] = x; };
  set(UpdateScalar::lr, 0.01), set(UpdateScalar::correction1, 0.1), set(UpdateScalar::correction2, 0.05);
  set(UpdateScalar::grad_scale, 0.5), set(UpdateScalar::applied, applied);
  TestDevice device;
  const Tensor w = device.put(a.w, 1, offset), m = device.put(a.m, 1, offset), v = device.put(a.v, 1, offset);
  const Tensor rounded = device.put(std::vector<std::uint16_t>(kSize, 7), 1, DType::bf16, offset);
  ops::adamw(device.ctx, w, rounded, m, v, device.put(g, 1, offset), device.put(scalars), kConstants);
  return {device.get<float>(w), device.get<float>(m), device.get<float>(v), device.get<std::uint16_t>(rounded)};
}

TEST(EmulatedUpdate, TheCopyIsTheWeightRounded) {
  const Arrays after = updated(/*applied=*/1, /*offset=*/0);
  for (std::size_t i = 0; i < kSize; ++i) EXPECT_EQ(after.rounded[i], to_bf16(after.w[i]).bits) << i;
  const float g = std::sin(3.f) * 0.5f, m = 0.9f * std::cos(1.f) * 0.1f + 0.1f * g, v = 0.95f * 1.01f + 0.05f * g * g;
  EXPECT_NEAR(after.m[1], m, 1e-7);
  EXPECT_NEAR(after.v[1], v, 1e-6);
  EXPECT_NEAR(after.w[1], std::sin(1.f) * (1 - 0.001f) - 0.01f * (m / 0.1f) / std::sqrt(v / 0.05f), 1e-6);
}

TEST(EmulatedUpdate, NothingChangesWhereItIsNotApplied) {
  const Arrays after = updated(/*applied=*/0, /*offset=*/0);
  EXPECT_THAT(after.rounded, testing::Each(7));
  EXPECT_EQ(after.w[1], std::sin(1.f));
  EXPECT_EQ(after.m[1], std::cos(1.f) * 0.1f);
  EXPECT_EQ(after.v[1], 1.01f);
}

TEST(EmulatedUpdate, AlignmentChangesNoBit) {
  const Arrays aligned = updated(/*applied=*/1, /*offset=*/0);
  EXPECT_TRUE(updated(1, /*offset=*/1) == aligned);
  EXPECT_TRUE(updated(1, /*offset=*/4) == aligned);
}

TEST(EmulatedUpdate, ClipSeesWhatIsNotFinite) {
  TestDevice device;
  for (const double bad : {std::nan(""), HUGE_VAL, 2.0}) {
    std::vector<double> before(kUpdateScalars, 0.25);
    before[static_cast<int>(UpdateScalar::norm_limit)] = HUGE_VAL;
    const Tensor scalars = device.put(before);
    const Tensor losses = device.put(std::vector<double>{1, 2, 3}, 3);
    std::vector<double> squares(300, 1);
    squares[271] = bad;
    ops::clip(device.ctx, scalars, losses, device.put(squares, 300), /*limit=*/1);
    const auto s = device.get<double>(scalars);
    EXPECT_EQ(s[static_cast<int>(UpdateScalar::applied)], std::isfinite(bad) ? 1 : 0);
    EXPECT_EQ(s[static_cast<int>(UpdateScalar::loss)], 1.5);
    if (std::isfinite(bad)) {
      EXPECT_DOUBLE_EQ(s[static_cast<int>(UpdateScalar::grad_scale)], 1 / std::sqrt(301));
    }
  }
}

TEST(EmulatedUpdate, ClipObeysTheLimitOfTheNorm) {
  TestDevice device;
  const double norm = std::sqrt(300.0);
  for (const double limit : {norm, std::nextafter(norm, 0.0)}) {
    std::vector<double> before(kUpdateScalars, 0.25);
    before[static_cast<int>(UpdateScalar::norm_limit)] = limit;
    const Tensor scalars = device.put(before), losses = device.put(std::vector<double>{1, 2, 3}, 3);
    ops::clip(device.ctx, scalars, losses, device.put(std::vector<double>(300, 1), 300), /*limit=*/1);
    EXPECT_EQ(device.get<double>(scalars)[static_cast<int>(UpdateScalar::applied)], limit == norm ? 1 : 0);
  }
}

TEST(EmulatedUpdate, SquaresOfAnUnalignedRow) {
  TestDevice device;
  const std::vector<float> x(70001, 0.5f);
  for (const i64 offset : {0, 3}) {
    const Tensor out = device.put(std::vector<double>(2, -1), 2);
    ops::sum_squares(device.ctx, out, device.put(x, 1, offset));
    EXPECT_EQ(device.get<double>(out), (std::vector<double>{kSumBlock * 0.25, (70001 - kSumBlock) * 0.25}));
  }
}

}  // namespace
}  // namespace xlstm::test
