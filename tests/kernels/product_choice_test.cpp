// The choice of a product's algorithm, with a clock of our own in the place of a device.
#include "kernels/cuda/product_choice.h"

#include <gmock/gmock.h>

#include <cmath>

namespace xlstm {
namespace {

using testing::HasSubstr;

std::vector<ProductProposal> proposals(std::size_t count) {
  std::vector<ProductProposal> out;
  for (std::size_t i = 0; i < count; ++i) out.push_back({fmt::format("{:02x}", i), fmt::format("number {}", i)});
  return out;
}

// seconds[i][n]: what proposal i takes when it is run for the n-th time; the last one from then on.
struct Clock {
  std::vector<std::vector<double>> seconds;
  std::vector<std::size_t> runs = {};
  double operator()(std::size_t i) {
    runs.resize(seconds.size());
    return seconds[i][std::min(runs[i]++, seconds[i].size() - 1)];
  }
};

std::size_t taken(Clock clock) {
  return choose_fastest(proposals(clock.seconds.size()), [&](std::size_t i) { return clock(i); }).taken;
}

ProductKey key(i64 m) { return {.m = m, .n = 2, .k = 3, .lda = 3, .transpose_b = true, .alignment_a = 256}; }
ProductChoice choice(std::size_t which) { return {.taken = which, .proposals = proposals(3)}; }

TEST(ProductChoice, TakesTheFastest) {
  EXPECT_EQ(taken({{{3.0}, {2.0}, {1.0}, {2.5}}}), 2u);
  EXPECT_EQ(taken({{{1.0}}}), 0u);
}

TEST(ProductChoice, TheFirstRunOfEachOnlyWarmsUp) { EXPECT_EQ(taken({{{9.0, 1.0}, {0.5, 2.0}}}), 0u); }

TEST(ProductChoice, TheFastestOfSeveralRoundsCounts) { EXPECT_EQ(taken({{{1.0}, {1.0, 1.4, 0.8, 1.4}}}), 1u); }

TEST(ProductChoice, ASmallDifferenceLeavesTheEarlierOne) {
  EXPECT_EQ(taken({{{1.0}, {0.985}}}), 0u);
  EXPECT_EQ(taken({{{1.0}, {0.97}}}), 1u);
}

TEST(ProductChoice, WhatDoesNotWorkIsNotTaken) {
  EXPECT_EQ(taken({{{INFINITY}, {INFINITY}, {2.0}}}), 2u);
  EXPECT_EQ(taken({{{1.0}, {INFINITY}}}), 0u);
  EXPECT_EQ(taken({{{INFINITY}, {INFINITY}}}), 0u);
}

TEST(ProductChoice, WhatIsHopelessIsRunTwiceOnly) {
  Clock clock{{{1.0}, {5.0}}};
  choose_fastest(proposals(2), [&](std::size_t i) { return clock(i); });
  EXPECT_EQ(clock.runs, (std::vector<std::size_t>{4, 2}));
}

TEST(ProductChoice, IsKeptFromProcessToProcess) {
  ProductChoices first("GPU", "1.2");
  ProductChoice one = choice(2);
  one.proposals[0].seconds = 1.0 / 3;
  one.proposals[1].seconds = INFINITY;
  first.add(key(1), one);
  first.add(key(7), choice(1));
  ProductChoices second("GPU", "1.2");
  EXPECT_EQ(second.take(first.text()), "");
  ASSERT_NE(second.find(key(1)), nullptr);
  EXPECT_EQ(second.find(key(1))->algorithm().algorithm, "02");
  EXPECT_EQ(second.find(key(1))->proposals[0].seconds, 1.0 / 3);
  EXPECT_EQ(second.find(key(1))->proposals[1].seconds, INFINITY);
  EXPECT_EQ(second.find(key(7))->taken, 1u);
  EXPECT_EQ(second.find(key(8)), nullptr);
  EXPECT_EQ(second.text(), first.text());
}

// Each field of a key tells products apart, also after reading.
TEST(ProductChoice, KeysAreReadAsTheyWereWritten) {
  ProductKey k{.m = 1, .n = 2, .k = 3, .lda = 4, .ldb = 5, .ldc = 6, .ldz = 7, .type_in = 8, .type_out = 9};
  k.alignment_a = 10, k.alignment_b = 11, k.alignment_c = 12, k.alignment_z = 13;
  for (bool* flag : {&k.transpose_a, &k.transpose_b, &k.plus_z, &k.in_place}) {
    *flag = true;
    ProductChoices from("GPU", "1"), to("GPU", "1");
    from.add(k, choice(0));
    to.take(from.text());
    EXPECT_NE(to.find(k), nullptr);
    *flag = false;
    EXPECT_EQ(to.find(k), nullptr);
  }
}

TEST(ProductChoice, AnotherDeviceOrLibraryChoosesAnewAndKeepsTheOthers) {
  ProductChoices first("GPU", "1.2");
  first.add(key(1), choice(2));
  ProductChoices later("GPU", "1.3"), elsewhere("other", "1.2");
  EXPECT_EQ(later.take(first.text()), "GPU with 1.2");
  EXPECT_EQ(elsewhere.take(first.text()), "GPU with 1.2");
  EXPECT_EQ(later.find(key(1)), nullptr);
  later.add(key(1), choice(0));
  ProductChoices back("GPU", "1.2");
  EXPECT_EQ(back.take(later.text()), "");
  EXPECT_EQ(back.find(key(1))->taken, 2u);
}

TEST(ProductChoice, DamagedTextIsRefusedWithTheRemedy) {
  ProductChoices whole("GPU", "1.2");
  whole.add(key(1), choice(2));
  const std::string text = whole.text();
  std::string beyond = text, without = text;
  beyond.replace(beyond.find("\"taken\": 2"), 10, "\"taken\": 3");
  without.replace(without.find("\"lda\""), 5, "\"ldx\"");
  for (const std::string& bad : {std::string("{"), std::string("[]"), text.substr(0, text.size() / 2), beyond, without})
    try {
      ProductChoices("GPU", "1.2").take(bad);
      FAIL() << bad;
    } catch (const UserError& e) {
      EXPECT_THAT(e.what(), HasSubstr("delete it"));
    }
}

TEST(ProductChoice, BytesAsText) {
  const unsigned char bytes[] = {0, 1, 0xab, 0xff};
  EXPECT_EQ(to_hex(bytes, 4), "0001abff");
  unsigned char back[4] = {};
  EXPECT_TRUE(from_hex("0001abff", back, 4));
  EXPECT_EQ(std::memcmp(bytes, back, 4), 0);
  for (const char* bad : {"", "0001abf", "0001abfff0", "0001abfg", "0001ABFF"}) EXPECT_FALSE(from_hex(bad, back, 4));
}

}  // namespace
}  // namespace xlstm
