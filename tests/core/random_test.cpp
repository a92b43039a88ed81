// Philox with the known answers of its authors, and numbers that are as normal and as independent as they should be.
#include "core/random.h"

#include <gtest/gtest.h>

#include <vector>

namespace xlstm {
namespace {

using Block = std::array<std::uint32_t, 4>;

// Random123's kat_vectors, philox4x32 with 10 rounds.
TEST(Random, KnownAnswers) {
  constexpr std::uint32_t ones = 0xffffffffu;
  EXPECT_EQ(philox({0, 0, 0, 0}, {0, 0}), (Block{0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u}));
  EXPECT_EQ(philox({ones, ones, ones, ones}, {ones, ones}),
            (Block{0x408f276du, 0x41c83b0eu, 0xa20bc7c6u, 0x6d5451fdu}));
  EXPECT_EQ(philox({0x243f6a88u, 0x85a308d3u, 0x13198a2eu, 0x03707344u}, {0xa4093822u, 0x299f31d0u}),
            (Block{0xd16cfe09u, 0x94fdccebu, 0x5001e420u, 0x24126ea1u}));
}

TEST(Random, StreamsDifferBySeedUseAndNumber) {
  const RandomStream base(1, RandomUse::test, 0);
  EXPECT_EQ(RandomStream(1, RandomUse::test, 0).block(5), base.block(5));
  for (const RandomStream& other :
       {RandomStream(2, RandomUse::test, 0), RandomStream(1 + (std::uint64_t{1} << 32), RandomUse::test, 0),
        RandomStream(1, RandomUse::init, 0), RandomStream(1, RandomUse::test, 1),
        RandomStream(1, RandomUse::test, std::uint64_t{1} << 32)})
    EXPECT_NE(other.block(5), base.block(5));
  EXPECT_NE(base.block(0), base.block(std::uint64_t{1} << 32));
  for (std::uint64_t i = 0; i < 8; ++i) {
    EXPECT_EQ(base.bits(i), base.block(i / 4)[i % 4]);
    EXPECT_EQ(base.normal(i), base.normals(i / 4)[i % 4]);
  }
}

// n = 2^18 numbers; an estimate of a mean of numbers with variance s^2 has the standard deviation s / sqrt(n). Five of
// those are allowed: the stream is fixed, so the test does not flicker.
constexpr std::uint64_t kCount = 1 << 18;
const double kSigma = 1 / std::sqrt(static_cast<double>(kCount));

double mean_of(auto&& f) {
  double sum = 0;
  for (std::uint64_t i = 0; i < kCount; ++i) sum += f(i);
  return sum / static_cast<double>(kCount);
}

TEST(Random, Uniform) {
  const RandomStream r(3, RandomUse::test);
  EXPECT_NEAR(mean_of([&](std::uint64_t i) { return r.uniform(i); }), 0.5, 5 * kSigma * std::sqrt(1.0 / 12));
  EXPECT_GT(RandomStream(0, RandomUse::test).uniform(0), 0);
  EXPECT_LT((0xffffffffu + 0.5) * 0x1p-32, 1.0);
}

TEST(Random, NormalMoments) {
  const RandomStream r(3, RandomUse::test);
  EXPECT_NEAR(mean_of([&](std::uint64_t i) { return r.normal(i); }), 0, 5 * kSigma);
  EXPECT_NEAR(mean_of([&](std::uint64_t i) { return std::pow(r.normal(i), 2); }), 1, 5 * kSigma * std::sqrt(2));
  EXPECT_NEAR(mean_of([&](std::uint64_t i) { return std::pow(r.normal(i), 3); }), 0, 5 * kSigma * std::sqrt(15));
  EXPECT_NEAR(mean_of([&](std::uint64_t i) { return std::pow(r.normal(i), 4); }), 3, 5 * kSigma * std::sqrt(96));
  EXPECT_NEAR(mean_of([&](std::uint64_t i) { return std::abs(r.normal(i)) > 1.959963984540054; }), 0.05,
              5 * kSigma * std::sqrt(0.05 * 0.95));
}

// Neighbours, the two halves of a Box-Muller pair included, are uncorrelated in value and in size.
TEST(Random, NeighboursAreUncorrelated) {
  const RandomStream r(4, RandomUse::test);
  const auto square = [](double x) { return x * x - 1; };
  for (const std::uint64_t lag : {1, 2, 3, 4, 8}) {
    EXPECT_NEAR(mean_of([&](std::uint64_t i) { return r.normal(i) * r.normal(i + lag); }), 0, 5 * kSigma) << lag;
    EXPECT_NEAR(mean_of([&](std::uint64_t i) { return square(r.normal(i)) * square(r.normal(i + lag)); }), 0,
                5 * kSigma * 2)
        << lag;
  }
}

}  // namespace
}  // namespace xlstm
