// Targets that do not exist, and rows that no CTA can keep.
#include <gtest/gtest.h>

#include <cmath>

#include "tests/device/device.h"

namespace xlstm::test {
namespace {

constexpr double kCap = 15;

TEST(EmulatedCrossEntropy, WrongTargetsGiveNaNAndNoGradient) {
  constexpr i64 kClasses = 6;
  const std::vector<std::int32_t> targets{-1, 6, -2, 1 << 30, 5};
  TestDevice device;
  const Tensor loss = device.put(std::vector<float>(5, 9), 5), again = device.put(std::vector<float>(5, 9), 5);
  const Tensor logits = device.put(std::vector<float>(5 * kClasses, 1), 5);
  const Tensor dz = device.put(std::vector<float>(5 * kClasses, 9), 5), where = device.put(targets),
               one = device.put(std::vector<double>{1});
  ops::cross_entropy(device.ctx, loss, dz, logits, where, one, kCap);
  ops::cross_entropy_forward(device.ctx, again, logits, where, kCap);
  const auto losses = device.get<float>(loss), others = device.get<float>(again), gradient = device.get<float>(dz);
  for (std::size_t r = 0; r < 5; ++r) {
    EXPECT_EQ(std::isnan(losses[r]), r >= 1 && r <= 3) << "row " << r;
    EXPECT_EQ(std::isnan(others[r]), r >= 1 && r <= 3) << "row " << r;
    for (std::size_t c = 0; c < kClasses; ++c) EXPECT_EQ(gradient[r * kClasses + c] != 0, r == 4) << "row " << r;
  }
  EXPECT_EQ(losses[0], 0);
  EXPECT_NEAR(losses[4], std::log(6), 1e-6);
}

// The row that is too long for shared memory, against f64; dz in place.
void expect_long_row(i64 classes) {
  std::vector<float> z;
  for (i64 c = 0; c < classes; ++c) z.push_back(static_cast<float>(c * 37 % 101) * 0.1f - 5);
  double sum = 0;
  const auto capped = [&](i64 c) { return kCap * std::tanh(z[static_cast<std::size_t>(c)] / kCap); };
  for (i64 c = 0; c < classes; ++c) sum += std::exp(capped(c));
  const std::int32_t target = static_cast<std::int32_t>(classes) - 2;

  TestDevice device;
  const Tensor logits = device.put(z, 1), loss = device.put(std::vector<float>(1), 1);
  const Tensor where = device.put(std::vector<std::int32_t>{target}), one = device.put(std::vector<double>{1});
  ops::cross_entropy_forward(device.ctx, loss, logits, where, kCap);
  EXPECT_NEAR(device.get<float>(loss)[0], std::log(sum) - capped(target), 1e-5);
  const Tensor narrow = device.put(std::vector<bf16>(z.size()), 1, DType::bf16);
  ops::cross_entropy(device.ctx, loss, narrow, logits, where, one, kCap);
  ops::cross_entropy(device.ctx, loss, /*dz=*/logits, logits, where, one, kCap);
  EXPECT_NEAR(device.get<float>(loss)[0], std::log(sum) - capped(target), 1e-5);
  const auto gradient = device.get<float>(logits);
  const auto rounded = device.get<bf16>(narrow);
  double worst = 0;
  for (i64 c = 0; c < classes; ++c) {
    const double t = capped(c) / kCap, want = (std::exp(capped(c)) / sum - (c == target)) * (1 - t * t);
    worst = std::max(worst, std::fabs(gradient[static_cast<std::size_t>(c)] - want));
    EXPECT_EQ(rounded[static_cast<std::size_t>(c)].bits, to_bf16(gradient[static_cast<std::size_t>(c)]).bits);
  }
  EXPECT_LT(worst, 1e-6);
}

TEST(EmulatedCrossEntropy, RowsTooLongToBeKept) {
  expect_long_row(60008);
  expect_long_row(60003);
}

}  // namespace
}  // namespace xlstm::test
