#include "data/order.h"

#include <gtest/gtest.h>

#include <set>
#include <vector>

namespace xlstm {
namespace {

TEST(Permutation, IsABijection) {
  for (i64 n = 1; n <= 300; ++n)
    for (const std::uint64_t epoch : {0, 1}) {
      const Permutation permute(42, epoch, n);
      std::vector<bool> seen(static_cast<std::size_t>(n));
      for (i64 i = 0; i < n; ++i) {
        const i64 to = permute(i);
        ASSERT_TRUE(0 <= to && to < n);
        ASSERT_FALSE(seen[static_cast<std::size_t>(to)]) << n << " " << i;
        seen[static_cast<std::size_t>(to)] = true;
      }
    }
}

TEST(Permutation, DependsOnSeedAndEpoch) {
  const i64 n = 1000;
  const auto fixed_points = [&](const Permutation& a, const Permutation& b) {
    int same = 0;
    for (i64 i = 0; i < n; ++i) same += a(i) == b(i);
    return same;
  };
  const Permutation base(1, 0, n);
  EXPECT_EQ(fixed_points(base, Permutation(1, 0, n)), n);
  // Two random permutations agree in 1 place on average (Poisson): more than 10 has probability 1e-8.
  EXPECT_LE(fixed_points(base, Permutation(1, 1, n)), 10);
  EXPECT_LE(fixed_points(base, Permutation(2, 0, n)), 10);
}

TEST(Permutation, SpreadsNeighbours) {
  // Mean distance of the images of neighbours: n/3 for a random permutation, with a standard error of 0.24 n / sqrt(n).
  const i64 n = 10000;
  const Permutation permute(3, 0, n);
  double sum = 0;
  for (i64 i = 0; i + 1 < n; ++i) sum += std::abs(static_cast<double>(permute(i + 1) - permute(i)));
  EXPECT_NEAR(sum / n, n / 3.0, 5 * 0.24 * 100);
}

TEST(Permutation, WorksOnLargeSets) {
  const i64 n = (i64{1} << 40) + 12345;
  const Permutation permute(3, 7, n);
  std::set<i64> images;
  for (i64 i = 0; i < 1000; ++i) {
    const i64 to = permute(n - 1 - i);
    EXPECT_TRUE(0 <= to && to < n);
    images.insert(to);
  }
  EXPECT_EQ(images.size(), 1000u);
}

TEST(Permutation, IsTheSameForEver) {  // the order is part of the exactness contract: these numbers never change
  std::vector<i64> first;
  for (i64 i = 0; i < 8; ++i) first.push_back(Permutation(1, 2, 100)(i));
  EXPECT_EQ(first, (std::vector<i64>{93, 79, 32, 21, 38, 71, 9, 72}));
}

TEST(Windows, CoverTheStream) {
  EXPECT_EQ((Windows{101, 10}.count()), 10);
  EXPECT_EQ((Windows{100, 10}.count()), 9);
  EXPECT_EQ((Windows{11, 10}.count()), 1);
  EXPECT_EQ((Windows{10, 10}.count()), 0);
  EXPECT_EQ((Windows{0, 10}.count()), 0);
}

}  // namespace
}  // namespace xlstm
