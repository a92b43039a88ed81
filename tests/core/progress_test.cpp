// Lines of progress: they fit, and say the most important things as long as there is room.
#include "core/log.h"
#include "core/text.h"
#include "tests/core/support.h"

namespace xlstm {
namespace {

using testing::HasSubstr;

const ProgressText kTraining{.what = "train",
                             .share = 0.5,
                             .amount = "12.3 k steps",
                             .rate = "0.417 steps/s",
                             .time = "8 h 11 min left",
                             .note = "loss 3.1416"};

std::size_t count(const std::string& line, const std::string& what) {
  std::size_t n = 0;
  for (std::size_t at = 0; (at = line.find(what, at)) != std::string::npos; at += what.size()) ++n;
  return n;
}

TEST(Progress, PlainLine) {
  EXPECT_EQ(plain_line(kTraining), "train   50.0 %  12.3 k steps  0.417 steps/s  8 h 11 min left  loss 3.1416");
  EXPECT_EQ(plain_line({.what = "reading", .amount = "5 MB", .rate = "1 MB/s"}), "reading  5 MB  1 MB/s");
}

TEST(Progress, EveryWidthHoldsItsLine) {
  ProgressText path = kTraining, wide = kTraining;
  path.what = "verifying /a/rather/long/path/to/some/data/set/validation";
  wide.what = "読み込み 日本語/データ/検証";
  wide.note = "日本";
  for (const ProgressText& p : {kTraining, path, wide, {.what = "reading", .amount = "5 MB", .rate = "1 MB/s"}})
    for (i64 columns = 1; columns < 140; ++columns) {
      const std::string line = bar_line(p, columns);
      ASSERT_LE(columns_of(line), columns) << line;
      ASSERT_FALSE(line.empty());
      if (p.share < 0 || columns < 30) continue;
      EXPECT_GE(count(line, "█"), 4u) << line;
      EXPECT_LE(count(line, "░"), count(line, "█") + 1) << line;
      EXPECT_THAT(line, HasSubstr("50.0 %"));
    }
}

TEST(Progress, WhatGoesFirst) {
  const std::string full = bar_line(kTraining, 130);
  EXPECT_EQ(count(full, "█") + count(full, "░"), 24u);
  EXPECT_THAT(full, HasSubstr("50.0 %  12.3 k steps  0.417 steps/s  8 h 11 min left  loss 3.1416"));
  EXPECT_EQ(bar_line(kTraining, 79), "train  ████████░░░░░░░░   50.0 %  12.3 k steps  8 h 11 min left  loss 3.1416");
  EXPECT_EQ(bar_line(kTraining, 55), "train  ████░░░░   50.0 %  8 h 11 min left  loss 3.1416");
  EXPECT_EQ(bar_line(kTraining, 41), "train  ████░░░░   50.0 %  8 h 11 min left");
  EXPECT_EQ(bar_line(kTraining, 24), "train  ████░░░░   50.0 %");
}

TEST(Progress, Columns) {
  EXPECT_EQ(columns_of("Größe ░"), 7);
  EXPECT_EQ(columns_of("日本 😀"), 7);
  EXPECT_EQ(cut_to_columns("Größe", 5), "Größe");
  EXPECT_EQ(cut_to_columns("Größe", 4), "Grö…");
  EXPECT_EQ(cut_to_columns("日本語", 5), "日本…");
  EXPECT_EQ(cut_to_columns("日本語", 4), "日…");
  EXPECT_EQ(cut_to_columns("日本語", 1), "…");
  EXPECT_EQ(cut_to_columns("日本語", 0), "");
}

}  // namespace
}  // namespace xlstm
