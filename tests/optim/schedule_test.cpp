#include "optim/schedule.h"

#include <gtest/gtest.h>

namespace xlstm {
namespace {

const ScheduleConfig kPaper{
    .type = ScheduleType::cosine, .warmup_steps = 750, .cooldown_steps = 1000, .final_factor = 0.1};

TEST(Schedule, ThePapersRunAsLogged) {  // spec §8.1
  EXPECT_DOUBLE_EQ(learning_rate(kPaper, 3e-3, 50, 22000), 2e-4);
  EXPECT_NEAR(learning_rate(kPaper, 3e-3, 1000, 22000), 0.0029989847, 1e-10);
  EXPECT_DOUBLE_EQ(learning_rate(kPaper, 3e-3, 750, 22000), 3e-3);
  EXPECT_NEAR(learning_rate(kPaper, 3e-3, 21000, 22000), 3e-4, 1e-15);
  EXPECT_NEAR(learning_rate(kPaper, 3e-3, 21500, 22000), 1.5e-4, 1e-15);
  EXPECT_EQ(learning_rate(kPaper, 3e-3, 22000, 22000), 0);
}

TEST(Schedule, OtherShapes) {
  const ScheduleConfig linear{.type = ScheduleType::linear, .warmup_steps = 10, .final_factor = 0.2};
  EXPECT_DOUBLE_EQ(learning_rate(linear, 1, 60, 110), 0.6);
  EXPECT_NEAR(learning_rate(linear, 1, 110, 110), 0.2, 1e-15);
  const ScheduleConfig constant{.type = ScheduleType::constant, .warmup_steps = 4};
  EXPECT_DOUBLE_EQ(learning_rate(constant, 2, 1, 10), 0.5);
  EXPECT_DOUBLE_EQ(learning_rate(constant, 2, 10, 10), 2);
  const ScheduleConfig wsd{.type = ScheduleType::wsd, .warmup_steps = 2, .cooldown_steps = 5};
  EXPECT_DOUBLE_EQ(learning_rate(wsd, 1, 15, 20), 1);
  EXPECT_DOUBLE_EQ(learning_rate(wsd, 1, 18, 20), 0.4);
}

TEST(Schedule, PhasesThatDoNotFitAreRefused) {
  EXPECT_THROW(kPaper.check(1700), UserError);
  EXPECT_NO_THROW(kPaper.check(1750));
  EXPECT_THROW((ScheduleConfig{.type = ScheduleType::constant, .cooldown_steps = 1}.check(10)), UserError);
}

}  // namespace
}  // namespace xlstm
