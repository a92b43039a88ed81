// The page: nothing that a browser would fetch or run, every text escaped, what matters first.
#include "train/report.h"

#include <gmock/gmock.h>

// gcc 12 sees uninitialised memory in its own <regex> where sanitizers are on.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <regex>

#include "tests/train/run_rig.h"
#include "train/html.h"
#include "train/plot.h"

namespace xlstm {
namespace {

using testing::HasSubstr;
using testing::Not;

// Two runs that differ in one key, the second with a damaged line and a skipped update.
struct ReportTest : testing::Test {
  static const TempDir& dir() {
    static const TempDir d;
    static const bool made = [] {
      run_in(d / "exp", tiny_run());
      TrainConfig cfg = tiny_run();
      cfg.model.mixer.input_gate = InputGate::sigmoid;
      run_in(d / "sig", cfg);
      OutputFile more(d / "sig/metrics.jsonl", /*append=*/true);
      more.write(
          "{\"step\":13,\"tokens\":2500,\"loss\":null,\"grad_norm\":null,\"lr\":0,\"applied\":false}\n{\"step\":14,");
      more.close();
      return true;
    }();
    EXPECT_TRUE(made);
    return d;
  }
  static std::vector<ReportedRun> runs() {
    return {ReportedRun::read(dir() / "exp"), ReportedRun::read(dir() / "sig")};
  }
};

// Whatever would make a browser look elsewhere, or run something.
void expect_self_contained(const std::string& page) {
  static const std::regex fetching(
      R"(<(script|link|iframe|object|embed|img|base|form)\b|\b(src|href|action|data|srcset|on\w+)=|url\(|@import|https?:|//[a-z]|javascript:)",
      std::regex::icase);
  std::smatch found;
  EXPECT_FALSE(std::regex_search(page, found, fetching)) << found.str() << " at " << found.position();
}

// Every tag is closed, in order.
void expect_balanced(const std::string& page) {
  static const std::regex tag(R"(<(/?)([a-z0-9]+)([^<>]*?)(/?)>)");
  std::vector<std::string> open;
  for (std::sregex_iterator it(page.begin(), page.end(), tag), end; it != end; ++it) {
    const std::smatch& m = *it;
    if (m[4] == "/" || m[2] == "meta") continue;
    if (m[1] == "") {
      open.push_back(m[2]);
      continue;
    }
    ASSERT_FALSE(open.empty()) << m.str();
    ASSERT_EQ(open.back(), m[2].str()) << "at " << m.position();
    open.pop_back();
  }
  EXPECT_THAT(open, testing::IsEmpty());
}

TEST_F(ReportTest, NeedsNothingElse) {
  for (const auto& page : {report_page(runs()), report_page({runs()[0]})}) {
    expect_self_contained(page);
    expect_balanced(page);
    EXPECT_THAT(page, HasSubstr("prefers-color-scheme: dark"));
    EXPECT_THAT(page, HasSubstr("width=device-width"));
    EXPECT_EQ(page.find("<svg viewBox") != page.npos, can_plot());
  }
}

TEST_F(ReportTest, WhatDiffersComesFirst) {
  const std::string page = report_page(runs());
  const std::size_t key = page.find("model.mixer.input_gate"), all = page.find("all settings");
  ASSERT_NE(key, page.npos);
  EXPECT_LT(key, all);
  EXPECT_GT(page.find("optimizer.beta1"), all);
  EXPECT_THAT(page, HasSubstr("1 update skipped"));
  EXPECT_THAT(page, HasSubstr("1 line of metrics.jsonl could not be read"));
}

TEST_F(ReportTest, TextsAreEscaped) {
  std::vector<ReportedRun> all = runs();
  const std::string evil = "</pre><script>alert('x')</script> & \xff";
  for (ReportedRun& run : all) {
    run.name = evil;
    run.samples = {evil};
    run.settings["run.name"] = evil;
    run.environment["processor"] = evil;
    run.anomalies = {evil};
  }
  const std::string page = report_page(all);
  EXPECT_THAT(page, Not(HasSubstr("<script")));
  EXPECT_THAT(page, HasSubstr("&lt;script&gt;"));
  expect_balanced(page);
}

TEST_F(ReportTest, BadRuns) {
  EXPECT_THROW(ReportedRun::read(dir() / "nothere"), UserError);
  std::vector<ReportedRun> other = runs();
  other[1].settings["data.validation"] = "elsewhere";
  try {
    report_page(other);
    FAIL();
  } catch (const UserError& e) {
    EXPECT_THAT(e.what(), testing::AllOf(HasSubstr("cannot be compared"), HasSubstr("data.validation")));
  }
  ReportedRun empty = runs()[0];
  empty.metrics = {};
  empty.environment = nullptr;
  expect_balanced(report_page({empty}));
}

TEST(Plot, PointsAreThinnedByMeanOrPeak) {
  const std::vector<std::pair<double, double>> points{{0, 1}, {1, 5}, {2, NAN}, {3, 2}, {4, NAN}, {5, NAN}};
  EXPECT_EQ(thinned(points, 6, Thin::mean).size(), 6u);
  const auto mean = thinned(points, 3, Thin::mean), peak = thinned(points, 3, Thin::largest);
  EXPECT_EQ(mean[0], (std::pair{0.5, 3.0}));
  EXPECT_EQ(peak[0].second, 5);
  EXPECT_EQ(mean[1].second, 2);
  EXPECT_TRUE(std::isnan(peak[2].second));
}

TEST(Plot, DrawsInTheColoursOfThePage) {
  if (!can_plot()) GTEST_SKIP() << "no gnuplot";
  const Plot good{.title = "a", .x_label = "tokens", .series = {{{{1, 2}, {2, 3}}, 3, false}}};
  const Plot point{.title = "b", .x_label = "tokens", .series = {{{{1, 2}}, 0, false}}};
  const auto drawn = draw_svg({good, point, good});
  EXPECT_THAT(drawn[0],
              testing::AllOf(HasSubstr("var(--series-3)"), HasSubstr("var(--grid)"), HasSubstr("currentColor"),
                             Not(HasSubstr("rgb(")), Not(HasSubstr(" color=")), Not(HasSubstr(" id="))));
  EXPECT_EQ(drawn[1], "");
  EXPECT_NE(drawn[2], "");
}

}  // namespace
}  // namespace xlstm
