// The kernels that measure rates do what they are counted for.
#include <gmock/gmock.h>

#include "kernels/cuda/wgmma_rates.h"
#include "tests/device/device.h"

namespace xlstm::test {
namespace {

class HopperRates : public testing::Test {
 protected:
  void SetUp() override {
    if (device_.ctx.gpu->info().architecture != kHopperArchitecture) GTEST_SKIP() << "parts of sm_90a";
  }
  TestDevice device_;
};

TEST_F(HopperRates, ProductsAreAllComputed) {
  constexpr int kCtas = 3;
  for (const gpu::ProductRate which : {gpu::ProductRate{64, true, 1}, {64, true, 2}, {64, false, 2}, {256, true, 1}}) {
    std::vector<float> sums[2];
    for (const int batches : {1, 3}) {
      const Tensor sink =
          device_.put(std::vector<float>(static_cast<std::size_t>(kCtas * which.warpgroups)), kCtas * which.warpgroups);
      EXPECT_EQ(gpu::run_product_rate(device_.ctx, which, batches, sink),
                2.0 * 64 * 16 * which.columns * 32 * batches * kCtas * which.warpgroups);
      sums[batches / 2] = device_.get<float>(sink);
    }
    for (std::size_t i = 0; i < sums[0].size(); ++i) {
      EXPECT_NE(sums[0][i], 0);
      EXPECT_EQ(sums[1][i], 3 * sums[0][i]);
    }
  }
}

TEST_F(HopperRates, EveryBoxArrivesEverywhere) {
  constexpr int kRows = 128, kColumns = 192, kBoxes = 45;
  std::vector<bf16> x;
  for (int i = 0; i < kRows * kColumns; ++i) x.push_back(to_bf16(static_cast<float>(i * 7 % 31 - 15)));
  const Tensor from = device_.put(x, kRows, DType::bf16);
  constexpr int kCtas = 8;
  for (const int cluster : {1, 2, 4}) {
    const Tensor sink = device_.put(std::vector<float>(static_cast<std::size_t>(kCtas) * 32), kCtas);
    EXPECT_EQ(gpu::run_copy_rate(device_.ctx, cluster, kBoxes, from, sink), 8192.0 * kBoxes * kCtas);
    const auto got = device_.get<float>(sink);
    for (int cta = 0; cta < kCtas; ++cta) {
      float want[32] = {};
      for (int n = 0; n < kBoxes; ++n) {
        const int box = cta / cluster * 37 + n, row = box / 3 % 2 * 64, column = box % 3 * 64;
        for (int lane = 0; lane < 32; ++lane)
          want[lane] += to_float(x[static_cast<std::size_t>(row * kColumns + column + 2 * lane)]);
      }
      for (int lane = 0; lane < 32; ++lane)
        ASSERT_EQ(got[static_cast<std::size_t>(cta * 32 + lane)], want[lane]) << "CTA " << cta << " of " << cluster;
    }
  }
}

}  // namespace
}  // namespace xlstm::test
