// Which part of a row is whose.
#include "dist/sharding.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace xlstm {
namespace {

constexpr i64 kGrain = 10;
const std::vector<i64> kParts{0, 95, 96, 250, 999, 1003};
constexpr i64 kElements = 1234;

std::vector<RowShards> shards_of(int ranks) {
  std::vector<RowShards> all;
  for (int r = 0; r < ranks; ++r) all.emplace_back(kElements, kParts, kGrain, Ranks{r, ranks});
  return all;
}

class Sharding : public testing::TestWithParam<int> {};

TEST_P(Sharding, EveryElementIsOneRanks) {
  std::vector<int> owners(kElements, 0);
  for (const RowShards& s : shards_of(GetParam()))
    for (const Piece& p : s.pieces())
      for (i64 i = p.begin; i < p.end; ++i) ++owners[static_cast<std::size_t>(i)];
  EXPECT_EQ(owners, std::vector<int>(kElements, 1));
}

TEST_P(Sharding, BordersLieOnGrainsAndPiecesBehindEachOther) {
  for (const RowShards& s : shards_of(GetParam())) {
    i64 owned = 0;
    for (i64 segment = 0; segment < s.segments(); ++segment) {
      for (const i64 border : s.borders(segment)) EXPECT_TRUE(border % kGrain == 0 || border == kElements);
      const Piece& p = s.piece(segment);
      EXPECT_EQ(p.at, owned);
      owned += p.end - p.begin;
      EXPECT_LE((p.end - p.begin) * GetParam(), s.largest_received());
    }
    EXPECT_EQ(owned, s.owned());
  }
}

// A segment leaves when its part's gradients are there: what it has of other parts must have come before, from behind.
TEST_P(Sharding, SegmentsReachIntoLaterPartsOnly) {
  const RowShards s = shards_of(GetParam())[0];
  ASSERT_EQ(s.segments(), static_cast<i64>(kParts.size()));
  for (i64 segment = 0; segment < s.segments(); ++segment)
    EXPECT_GE(s.begin(segment), kParts[static_cast<std::size_t>(segment)]);
  EXPECT_EQ(s.length(1), 0);  // a part that lies before the next border
}

TEST_P(Sharding, IsEvenToAGrain) {
  i64 least = kElements, most = 0;
  for (const RowShards& s : shards_of(GetParam())) {
    least = std::min(least, s.owned());
    most = std::max(most, s.owned());
  }
  EXPECT_LE(most - least, 2 * kGrain);  // the row's last grain is not full
}

INSTANTIATE_TEST_SUITE_P(Ranks, Sharding, testing::Values(1, 2, 3, 4, 8, 200));

}  // namespace
}  // namespace xlstm
