// The numbers of an evaluation against their definitions: losses from the logits of one pass over each prefix of each
// window, counts and bytes from the tokens themselves.
#include "train/evaluate.h"

#include <numbers>

#include "tests/train/loaded_rig.h"

namespace xlstm {
namespace {

using Ids = std::vector<int>;

// Two passes of a small model in f32 over the same tokens, cut in other ways: layers err by some 1e-5 of their largest
// element, logits of size 10 by 1e-4 (docs/numerics.md).
constexpr double kTolerance = 1e-4;

Dataset validation() { return Dataset::open(tiny_dataset(), "validation"); }

Ids read(const Dataset& data, i64 from, i64 count) {
  std::vector<std::int32_t> tokens(static_cast<std::size_t>(count));
  data.read(from, count, tokens.data());
  return {tokens.begin(), tokens.end()};
}

double loss_of(const std::vector<float>& logits, int target) {
  double sum = 0;
  for (const float z : logits) sum += std::exp(static_cast<double>(z));
  return std::log(sum) - static_cast<double>(logits[static_cast<std::size_t>(target)]);
}

struct Expected {
  double loss = 0, entropy = 0;
  std::vector<double> by_position;
};

Expected expected(const Dataset& data, i64 length, i64 windows) {
  Expected e;
  e.by_position.resize(static_cast<std::size_t>(length));
  std::map<int, double> count;
  const auto mean_over = static_cast<double>(windows);
  for (i64 w = 0; w < windows; ++w) {
    const Ids window = read(data, w * length, length + 1);
    for (i64 t = 0; t < length; ++t) {
      const int target = window[static_cast<std::size_t>(t + 1)];
      const double loss = loss_of(logits_after(loaded_model(), {window.begin(), window.begin() + t + 1}), target);
      e.by_position[static_cast<std::size_t>(t)] += loss / mean_over;
      e.loss += loss / mean_over / static_cast<double>(length);
      ++count[target];
    }
  }
  const double tokens = mean_over * static_cast<double>(length);
  for (const auto& [id, c] : count) e.entropy -= c / tokens * std::log(c / tokens);
  return e;
}

void expect_evaluation(i64 length, i64 batch, i64 windows) {
  SCOPED_TRACE(fmt::format("{} windows of {}, {} at a time", windows, length, batch));
  const Dataset data = validation();
  const Evaluation got = evaluate(loaded_model(), data, length, batch, {.windows = windows}).value();
  const Expected want = expected(data, length, windows);
  EXPECT_EQ(got.tokens, windows * length);
  EXPECT_NEAR(got.loss, want.loss, kTolerance);
  EXPECT_NEAR(got.unigram_entropy, want.entropy, 1e-12);
  EXPECT_EQ(got.bits_per_byte, 0);  // no table of bytes
  ASSERT_EQ(got.loss_by_position.size(), want.by_position.size());
  for (std::size_t t = 0; t < want.by_position.size(); ++t)
    EXPECT_NEAR(got.loss_by_position[t], want.by_position[t], kTolerance) << "position " << t;
}

TEST(Evaluate, TheFirstWindowsOfTheData) {
  expect_evaluation(/*length=*/24, /*batch=*/1, /*windows=*/3);
  expect_evaluation(24, 4, 8);
}

TEST(Evaluate, ALastBatchThatIsNotFull) {
  expect_evaluation(24, 5, 7);
  expect_evaluation(24, 5, 1);
}

TEST(Evaluate, AnotherContextThanInTraining) {
  expect_evaluation(7, 3, 5);
  expect_evaluation(150, 2, 3);
  expect_evaluation(1, 4, 6);
}

TEST(Evaluate, WithoutALimitEveryWindow) {
  const Dataset data = validation();
  const i64 windows = (data.total_tokens() - 1) / 24;
  ASSERT_NE(windows % 5, 0);
  const Evaluation all = evaluate(loaded_model(), data, 24, 5, {}).value();
  EXPECT_EQ(all.tokens, windows * 24);
  const Evaluation counted = evaluate(loaded_model(), data, 24, 5, {.windows = windows}).value();
  EXPECT_EQ(counted.loss, all.loss);
  EXPECT_EQ(evaluate(loaded_model(), data, 24, 5, {.windows = windows + 1000}).value().tokens, all.tokens);
}

// A byte that is no UTF-8 becomes U+FFFD, three bytes: the text is as long as it was, its tokens stand for more.
TEST(Evaluate, BitsPerByteOfTheOriginalText) {
  TempDir dir;
  const std::string text = "Größe of \xff\xfe the state \xc3( and memory\nthe gate \xff";
  write_text(dir / "bad.txt", text);
  build_dataset({.inputs = {(dir / "bad.txt").string()},
                 .tokenizer = sample_tokenizer_path(),
                 .out = dir / "data",
                 .validation_fraction = 0});
  const Dataset data = Dataset::open(dir / "data");
  const i64 length = data.total_tokens() - 1;  // everything but the first token is scored
  const Ids tokens = read(data, 0, length + 1);
  const std::string decoded = sample_tokenizer().decode(tokens);
  ASSERT_EQ(decoded.size(), text.size() + 4 * 2);
  const Ids scored(tokens.begin() + 1, tokens.end());
  const double scored_bytes = static_cast<double>(sample_tokenizer().decode(scored).size()) *
                              static_cast<double>(text.size()) / static_cast<double>(decoded.size());

  const Evaluation got =
      evaluate(loaded_model(), data, length, 1, {.token_bytes = sample_tokenizer().token_bytes()}).value();
  const double bits = got.loss * static_cast<double>(length) / std::numbers::ln2;
  EXPECT_NEAR(got.bits_per_byte, bits / scored_bytes, 1e-12 * got.bits_per_byte);
  EXPECT_GT(got.bits_per_byte, 1);
}

TEST(Evaluate, StopsBetweenBatchesWithoutANumber) {
  const Dataset data = validation();
  int asked = 0;
  EXPECT_FALSE(evaluate(loaded_model(), data, 24, 2, {.windows = 8, .stop = [&] { return ++asked == 3; }}));
  EXPECT_EQ(asked, 3);
  EXPECT_TRUE(evaluate(loaded_model(), data, 24, 2, {.windows = 8, .stop = [&] { return ++asked == 100; }}));
  EXPECT_EQ(asked, 7);
}

}  // namespace
}  // namespace xlstm
