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
  ReportedRun empty = runs()[0];
  empty.metrics = {};
  empty.environment = nullptr;
  expect_balanced(report_page({empty}));
}

std::string refusal_of(const std::vector<ReportedRun>& runs) {
  return user_error_of([&] { report_page(runs); });
}

// What counts is the text that was evaluated on, not where it lay.
TEST_F(ReportTest, ValidationSetsAreToldByWhatIsInThem) {
  std::vector<ReportedRun> two = runs();
  ASSERT_EQ(two[0].data.evaluation.at("validation").size(), 64u);
  two[1].settings["data.validation"] = "elsewhere";
  EXPECT_EQ(refusal_of(two), "");
  two[1].data.evaluation["validation"] = std::string(64, '0');
  EXPECT_THAT(refusal_of(two), testing::AllOf(HasSubstr("cannot be compared: data.validation is"),
                                              HasSubstr("elsewhere (000000000000)")));
  two[1].settings = two[0].settings;
  EXPECT_THAT(refusal_of(two), HasSubstr("data.validation"));
  two[1].data = {};  // of a version that did not record it
  EXPECT_EQ(refusal_of(two), "");
  two[1].settings["data.validation"] = "elsewhere";
  EXPECT_THAT(refusal_of(two), HasSubstr("data.validation"));
}

TEST_F(ReportTest, OtherPartsOfTheValidationSetAreTold) {
  std::vector<ReportedRun> two = runs();
  EXPECT_THAT(report_page(two), Not(HasSubstr("Not on the same part")));
  for (EvaluationMetrics& e : two[1].metrics.evaluations) e.scored = 7;
  EXPECT_THAT(report_page(two), HasSubstr("Not on the same part of the data:</span> on 7, 96 tokens of it"));
}

TEST_F(ReportTest, OneRunAloneHasNoDifference) {
  EXPECT_THAT(report_page(runs()), HasSubstr("<th>Δ loss</th>"));
  EXPECT_THAT(report_page({runs()[0]}), Not(HasSubstr("Δ")));
}

TEST_F(ReportTest, ARunWithoutAnEvaluationHidesNoOther) {
  std::vector<ReportedRun> two = runs();
  two[1].metrics.evaluations.clear();
  const std::string page = report_page(two);
  EXPECT_THAT(page, HasSubstr("Validation at step 12, the last"));
  EXPECT_THAT(page, HasSubstr(fmt::format("<td>{:.4f}</td>", two[0].metrics.evaluations.back().loss)));
  two[0].metrics.evaluations.clear();
  EXPECT_THAT(report_page(two), HasSubstr("no evaluation at the same step"));
}

// To the run that is named as reference; in training only where both have read the same batches.
TEST_F(ReportTest, DifferencesAreToTheReference) {
  if (!can_plot()) GTEST_SKIP() << "no gnuplot";
  const std::string training = "<figcaption>training loss, difference",
                    validation = "<figcaption>validation loss, diff";
  std::vector<ReportedRun> two = runs();
  EXPECT_THAT(report_page(two), testing::AllOf(Not(HasSubstr(training)), Not(HasSubstr(validation))));
  two[1].reference = 0;
  const std::string page = report_page(two);
  EXPECT_THAT(page, testing::AllOf(HasSubstr(training), HasSubstr(validation)));
  expect_balanced(page);
  const double difference = two[1].metrics.evaluations.back().loss - two[0].metrics.evaluations.back().loss;
  EXPECT_THAT(page, HasSubstr(fmt::format("<td>{:+.4f}</td>", difference)));
  two[1].settings["run.seed"] = "2";
  EXPECT_THAT(report_page(two), testing::AllOf(Not(HasSubstr(training)), HasSubstr(validation)));
  two[1].settings = two[0].settings;
  two[1].data.training = "other";
  EXPECT_THAT(report_page(two), Not(HasSubstr(training)));
}

// Two sets that happen to have one name are two pictures.
TEST_F(ReportTest, OtherTextUnderTheNameOfASetIsDrawnApart) {
  if (!can_plot()) GTEST_SKIP() << "no gnuplot";
  std::vector<ReportedRun> two = runs();
  for (ReportedRun& run : two) {
    run.metrics.sets["code"] = {{.step = 5, .tokens = 960, .loss = 3}, {.step = 10, .tokens = 1920, .loss = 2}};
    run.data.evaluation["code"] = std::string(64, 'a');
  }
  EXPECT_THAT(report_page(two), HasSubstr("<figcaption>loss on code</figcaption>"));
  two[1].data.evaluation["code"] = std::string(64, 'b');
  EXPECT_THAT(report_page(two),
              testing::AllOf(HasSubstr("loss on code (aaaaaaaaaaaa)"), HasSubstr("loss on code (bbbbbbbbbbbb)")));
}

// Packing is how training reads a text; evaluation reads its windows.
TEST(DataIdentity, ATextIsTheSamePackedOrNot) {
  const TempDir dir;
  std::string all;
  for (const std::string& document : sample_documents(200)) all += Json{{"text", document}}.dump() + "\n";
  write_text(dir / "text.jsonl", all);
  DatasetBuild build{.inputs = {(dir / "text.jsonl").string()},
                     .tokenizer = sample_tokenizer_path(),
                     .out = dir / "plain",
                     .validation_fraction = 0.1};
  const DatasetBuildResult plain = build_dataset(build);
  build.out = dir / "packed";
  build.row_tokens = 24;
  const DatasetBuildResult packed = build_dataset(build);
  EXPECT_NE(plain.validation->fingerprint(), packed.validation->fingerprint());
  EXPECT_EQ(plain.validation->tokens_fingerprint(), packed.validation->tokens_fingerprint());
  EXPECT_NE(plain.validation->tokens_fingerprint(), plain.train.tokens_fingerprint());
}

// Whoever mixes them sees which arm had which data before anything else.
TEST_F(ReportTest, ArmsWithMixturesShowTheirSetsFirst) {
  std::vector<ReportedRun> two = runs();
  TrainConfig mixed = tiny_run();
  mixed.data.mixture = {{.path = "data/web", .weight = 7}, {.path = "data/code", .weight = 3, .name = "code"}};
  mixed.data.train = "";
  for (const auto& [key, value] : ConfigTree::from_text(write_config(mixed), "config").values)
    if (key.starts_with("data.")) two[1].settings[key] = value.text;
  const std::string page = report_page(two);
  const std::size_t all = page.find("all settings");
  for (const char* key : {"data.mixture.0.path", "data.mixture.0.weight", "data.mixture.1.name", "data.train"})
    EXPECT_LT(page.find(key), all) << key;
  EXPECT_GT(page.find("data.packing"), all);
  EXPECT_THAT(page, HasSubstr("<td>data.mixture.1.path</td><td>–</td><td>data/code</td>"));
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
