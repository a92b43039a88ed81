// What comparisons and reports read and compute, on numbers whose answers are known.
#include "train/run_metrics.h"

#include <gmock/gmock.h>

#include <cmath>

#include "tests/train/checkpoint_cases.h"
#include "train/comparison.h"

namespace xlstm {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::string step_line(i64 step, double loss, double seconds, double gate = -9, bool applied = true) {
  return Json{{"step", step},
              {"tokens", step * 100},
              {"loss", std::isfinite(loss) ? Json(loss) : Json(nullptr)},
              {"grad_norm", 1.0},
              {"lr", 1e-3},
              {"tokens_per_second", 100 / seconds},
              {"seconds", seconds},
              {"data_wait", 0.0},
              {"applied", applied},
              {"input_gate_max", gate}}
             .dump() +
         "\n";
}
std::string evaluation_line(i64 step, double loss) {
  return Json{{"step", step}, {"validation_loss", loss}, {"validation_tokens", 10}}.dump() + "\n";
}

struct MetricsTest : TemporaryFolder {
  RunMetrics read(const std::string& text) const {
    write_file_atomically(dir / "metrics.jsonl", text);
    return RunMetrics::read(dir / "metrics.jsonl");
  }
  // Two evaluations, at 4 and 8 steps of so many seconds.
  RunMetrics run(double seconds, double first, double second) const {
    std::string text;
    for (i64 step = 1; step <= 8; ++step) {
      text += step_line(step, 5 - 0.1 * static_cast<double>(step), seconds, -10 + 0.25 * static_cast<double>(step));
      if (step == 4) text += evaluation_line(step, first);
    }
    return read(text + evaluation_line(8, second));
  }
};

TEST_F(MetricsTest, HalfWrittenAndForeignLinesAreCountedAndLeftOut) {
  const RunMetrics m =
      read(step_line(1, 4, 2) + "{\"step\":2,\"tok\n" + "null\n[1]\n{\"step\":\"x\"}\n" + step_line(1, 9, 2) +
           step_line(3, NAN, 1, -9, false) + evaluation_line(3, 2.5) + "{\"step\":4,\"tokens\":400,\"loss\":3.");
  EXPECT_EQ(m.damaged_lines, 6);
  ASSERT_EQ(m.steps.size(), 2u);
  EXPECT_TRUE(std::isnan(m.steps[1].loss));
  EXPECT_EQ(m.skipped(), 1);
  EXPECT_EQ(m.seconds(), 3);
  ASSERT_EQ(m.evaluations.size(), 1u);
  EXPECT_EQ(m.evaluations[0].tokens, 300);
  EXPECT_EQ(m.evaluations[0].seconds, 3);
  EXPECT_THROW(RunMetrics::read(dir / "nothere"), UserError);
  EXPECT_EQ(read("").steps.size(), 0u);
  EXPECT_TRUE(std::isnan(read("").tokens_per_second()) && std::isnan(read("").largest_gate()));
}

TEST_F(MetricsTest, LossAtATimeLiesBetweenTheEvaluationsAroundIt) {
  const RunMetrics m = run(2, 3, 2);  // at 8 s and 16 s
  EXPECT_EQ(m.validation_at_seconds(8), 3);
  EXPECT_EQ(m.validation_at_seconds(16), 2);
  EXPECT_EQ(m.validation_at_seconds(10), 2.75);
  EXPECT_EQ(m.validation_at_seconds(7.9), std::nullopt);
  EXPECT_EQ(m.validation_at_seconds(16.1), std::nullopt);
  EXPECT_EQ(m.validation_at_step(4), 3);
  EXPECT_EQ(m.validation_at_step(5), std::nullopt);
  EXPECT_EQ(m.tokens_per_second(), 50);
  EXPECT_EQ(m.largest_gate(), -8);
  EXPECT_DOUBLE_EQ(m.training_loss(8), 4.2);
}

TEST(Comparison, Variations) {
  const Variation v = parse_variation("model.mixer.input_gate=exp,sigmoid");
  EXPECT_EQ(v.key, "model.mixer.input_gate");
  EXPECT_THAT(v.values, ElementsAre("exp", "sigmoid"));
  for (const char* bad : {"key", "=a", "key=", "key=a,,b", "key=a,a"})
    EXPECT_THROW(parse_variation(bad), UserError) << bad;
  const std::vector<Arm> arms = make_arms({v, parse_variation("model.mixer.num_heads=2,4")});
  ASSERT_EQ(arms.size(), 4u);
  EXPECT_EQ(arms[1].name, "input_gate=exp num_heads=4");
  EXPECT_THAT(arms[2].assignments, ElementsAre("model.mixer.input_gate=sigmoid", "model.mixer.num_heads=2"));
  EXPECT_EQ(make_arms({parse_variation("a.eps=1"), parse_variation("b.eps=2")})[0].name, "a.eps=1 b.eps=2");
  EXPECT_THROW(make_arms({v, v}), UserError);
  for (const char* key : {"run.seed", "data.train", "train.context_length", "train.steps", "run.name"})
    EXPECT_THROW(make_arms({{key, {"1", "2"}}}), UserError) << key;
}

TEST(Comparison, SpreadIsTheSampleDeviation) {
  EXPECT_EQ(spread_of({}), std::nullopt);
  EXPECT_EQ(spread_of({1, NAN}), std::nullopt);
  EXPECT_EQ(spread_of({3})->deviation, std::nullopt);
  EXPECT_EQ(spread_of({1, 3})->mean, 2);
  EXPECT_DOUBLE_EQ(*spread_of({1, 3})->deviation, std::sqrt(2.0));
}

// Seeds that differ by 1 and arms that differ by 0.01: the pairs show it, the spread over the seeds does not.
TEST_F(MetricsTest, DifferencesAreOfPairsOfOneSeed) {
  const auto finished = [](i64 seed, RunMetrics m) { return ArmRun{seed, std::move(m), true, false}; };
  const std::vector<Arm> arms = make_arms({{"a", {"1", "2"}}});
  const Comparison c = compare_runs(arms,
                                    {{finished(1, run(2, 3, 2)), finished(2, run(2, 4, 3))},
                                     {finished(1, run(1, 3, 2.01)), finished(2, run(1, 4, 3.01))}},
                                    {1000, 2000});
  EXPECT_GT(*c.arms[1].loss->deviation, 0.7);
  EXPECT_NEAR(c.arms[1].loss_difference->mean, 0.01, 1e-12);
  EXPECT_NEAR(*c.arms[1].loss_difference->deviation, 0, 1e-12);
  EXPECT_EQ(c.to_json()["arms"][0]["loss_difference"], nullptr);
  EXPECT_THAT(c.table(), HasSubstr("0.0100 ± 0.0000"));
}

TEST_F(MetricsTest, EqualTokensAndEqualSeconds) {
  const std::vector<Arm> arms = make_arms({{"a", {"1", "2"}}});
  // The second arm is twice as fast: in its 8 s it has seen all tokens, the first one half of them.
  const auto finished = [](i64 seed, RunMetrics m) { return ArmRun{seed, std::move(m), true, false}; };
  const Comparison c = compare_runs(arms,
                                    {{finished(1, run(2, 3, 2)), finished(2, run(2, 3.2, 2.2))},
                                     {finished(1, run(1, 3.1, 2.1)), finished(2, run(1, 3.1, 2.1))}},
                                    {1000, 2000});
  EXPECT_EQ(c.step, 8);
  EXPECT_EQ(c.tokens, 800);
  EXPECT_EQ(c.seconds, 8);
  EXPECT_DOUBLE_EQ(c.arms[0].loss->mean, 2.1);
  EXPECT_NEAR(*c.arms[0].loss->deviation, std::sqrt(0.02), 1e-14);  // of 2 and 2.2, which f64 does not have
  EXPECT_FALSE(c.arms[0].loss_difference || c.arms[0].perplexity_difference);
  EXPECT_DOUBLE_EQ(c.arms[1].loss_difference->mean, 0);  // 0.1 and -0.1: the seeds do not cancel here
  EXPECT_NEAR(*c.arms[1].loss_difference->deviation, std::sqrt(0.02), 1e-14);
  EXPECT_DOUBLE_EQ(c.arms[1].perplexity_difference->mean, std::exp(2.1) - (std::exp(2.0) + std::exp(2.2)) / 2);
  EXPECT_DOUBLE_EQ(c.arms[0].perplexity->mean, (std::exp(2.0) + std::exp(2.2)) / 2);
  EXPECT_DOUBLE_EQ(c.arms[0].loss_at_seconds->mean, 3.1);
  EXPECT_DOUBLE_EQ(c.arms[1].loss_at_seconds->mean, 2.1);
  EXPECT_EQ(c.arms[1].tokens_per_second->mean, 100);
  EXPECT_EQ(c.arms[1].peak_bytes, 2000);
  EXPECT_THAT(c.table(), HasSubstr("2.1000 ± 0.1414"));
  EXPECT_EQ(c.to_json()["arms"][1]["largest_input_gate_preactivation"]["mean"], -8);

  // Seeds that have not begun are left out, and counted.
  const Comparison half = compare_runs(
      arms, {{finished(1, run(2, 3, 2)), ArmRun{.seed = 2}}, {finished(1, run(1, 3.1, 2.1)), ArmRun{.seed = 2}}},
      {1, 1});
  EXPECT_EQ(half.step, 8);
  EXPECT_EQ(half.arms[1].loss->mean, 2.1);
  EXPECT_DOUBLE_EQ(half.arms[1].loss_difference->mean, 2.1 - 2);
  EXPECT_EQ(half.arms[1].seeds, 2);
  EXPECT_EQ(half.arms[1].evaluated, 1);
  EXPECT_THAT(half.table(), HasSubstr("2 (1 so far)"));
  EXPECT_EQ(compare_runs(arms, {{ArmRun{}}, {ArmRun{}}}, {1, 1}).arms[0].loss, std::nullopt);

  // A run that has not come so far: what all have counts.
  const Comparison early = compare_runs(
      arms,
      {{finished(1, run(2, 3, 2))}, {ArmRun{1, read(step_line(4, 4, 1) + evaluation_line(4, 3.5)), false, false}}},
      {1, 1});
  EXPECT_EQ(early.step, 4);
  EXPECT_THAT(early.table(), HasSubstr("the same command goes on"));
}

}  // namespace
}  // namespace xlstm
