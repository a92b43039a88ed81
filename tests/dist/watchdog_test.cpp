// Who is named when nothing moves.
#include "dist/watchdog.h"

#include <gmock/gmock.h>

namespace xlstm {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr double kTimeout = 100;

Beat beat_at(i64 step, i64 begun, const char* what) {
  Beat b{.step = step, .begun = begun};
  b.name(what, 3);
  return b;
}

// Rank 0 of four, which waits in its eighth collective since second 50; the others have come to theirs.
class WatchdogTest : public testing::Test {
 protected:
  WatchdogTest() {
    dog.set_timeout(kTimeout);
    dog.mine = beat_at(7, 8, "gradients");
    dog.waits(0, "gradients", 3, 8, 50);
    for (int r = 1; r < 4; ++r) dog.heard(r, beat_at(7, 8, "gradients"), 50);
  }
  void beats_until(double end, int rank, const Beat& beat) {
    for (double t = 51; t <= end; ++t) dog.heard(rank, beat, t);
  }
  Watchdog dog{0, {"a", "b", "c", "d"}, 0};
  const double late = 50 + 0.7 * kTimeout + 1;
};

TEST_F(WatchdogTest, WaitsForTheTimeThatItWasGiven) {
  for (int r = 1; r < 4; ++r) beats_until(60, r, beat_at(7, 7, "norm"));
  EXPECT_FALSE(dog.verdict(60, /*hurry=*/false));
  dog.stops_waiting(0);
  EXPECT_FALSE(dog.verdict(1e6, false));
}

TEST_F(WatchdogTest, NamesTheRankThatHasNotCome) {
  for (int r : {1, 3}) beats_until(late, r, beat_at(7, 8, "gradients"));
  beats_until(late, 2, beat_at(6, 5, "losses"));
  const auto why = dog.verdict(late, false);
  ASSERT_TRUE(why);
  EXPECT_THAT(*why, AllOf(HasSubstr("rank 2 (c), which hangs"), HasSubstr("step 7"), HasSubstr("'gradients 3'"),
                          HasSubstr("at step 6"), HasSubstr("'losses 3'")));
}

TEST_F(WatchdogTest, NamesTheRankThatIsSilent) {
  for (int r : {1, 2}) beats_until(late, r, beat_at(7, 8, "gradients"));
  const auto why = dog.verdict(late, false);
  ASSERT_TRUE(why);
  EXPECT_THAT(*why, HasSubstr("rank 3 (d), which is dead, stopped or cut off"));
}

// Stopped before its first beat, and before a config says how long to wait.
TEST(WatchdogAtTheStart, NamesTheRankThatWasNeverHeardOf) {
  Watchdog first(0, {"a", "b", "c"}, 0), other(1, {"a", "b", "c"}, 0);
  for (Watchdog* dog : {&first, &other}) dog->waits(0, "the command", 0, 1, 0);
  for (double t = 0.5; t <= 84; ++t) {
    first.heard(1, Beat{.begun = 1}, t);
    ASSERT_FALSE(first.verdict(t, false)) << t;
  }
  const auto why = first.verdict(84.5, false);
  ASSERT_TRUE(why);
  EXPECT_THAT(*why, AllOf(HasSubstr("for rank 2 (c), which is dead, stopped or cut off"),
                          HasSubstr("nothing has been heard of it since the start")));
  const auto of_first = other.verdict(97, false);  // rank 0 has not come either
  ASSERT_TRUE(of_first);
  EXPECT_THAT(*of_first, AllOf(HasSubstr("for rank 0 (a)"), HasSubstr("nothing has been heard")));
}

TEST_F(WatchdogTest, WhoWorksIsWaitedFor) {
  for (double t = 51; t < 400; ++t) {
    for (int r : {1, 3}) dog.heard(r, beat_at(7, 8, "gradients"), t);
    Beat working = beat_at(7, 7, "checkpoint");
    working.progress = static_cast<i64>(t);
    dog.heard(2, working, t);
    ASSERT_FALSE(dog.verdict(t, false)) << t;
  }
}

TEST_F(WatchdogTest, WhoIsToldToStopDoesNotWaitForTheDead) {
  for (int r : {1, 2}) beats_until(65, r, beat_at(7, 8, "gradients"));
  EXPECT_FALSE(dog.verdict(65, /*hurry=*/false));
  EXPECT_TRUE(dog.verdict(65, /*hurry=*/true));
}

TEST(WatchdogOfAnother, BelievesRank0OrNamesIt) {
  Watchdog dog(1, {"a", "b", "c"}, 0);
  dog.set_timeout(kTimeout);
  dog.waits(0, "losses", 0, 4, 10);
  dog.told({.rank = 2, .silent = 70, .unmoved = 70, .beat = beat_at(3, 2, "norm")}, 85);
  EXPECT_FALSE(dog.verdict(85, false));
  EXPECT_THAT(dog.verdict(91, false).value_or(""), AllOf(HasSubstr("rank 2 (c)"), HasSubstr("'losses'")));
  EXPECT_THAT(dog.verdict(97, false).value_or(""), HasSubstr("rank 0 (a), which is dead"));
}

}  // namespace
}  // namespace xlstm
