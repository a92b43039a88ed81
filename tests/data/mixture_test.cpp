// Sets that alternate by weights: every prefix has its shares, and any place is found without those before it.
#include "data/mixture.h"

#include <gmock/gmock.h>

#include <numeric>

#include "data/dataset_writer.h"
#include "tests/data/support.h"

namespace xlstm {
namespace {

using Row = std::vector<std::int32_t>;

const std::vector<std::vector<double>> kWeights = {{1},       {1, 1},          {3, 1},          {0.7, 0.2, 0.1},
                                                   {5, 1, 3}, {1e-6, 1, 1e-6}, {1, 2, 3, 4, 5}, {1e300, 3e300}};

TEST(Interleaving, EveryPrefixHasItsShares) {
  for (const auto& weights : kWeights) {
    const Interleaving order(weights);
    const double bound = static_cast<double>(weights.size()) / 2 + 1e-4;  // weights are rounded to 2^-31
    const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
    std::vector<i64> counts(weights.size(), 0);
    for (i64 n = 0; n < 20000; ++n) {
      ASSERT_EQ(order.counts(n), counts);
      for (std::size_t k = 0; k < weights.size(); ++k)
        ASSERT_LE(std::abs(static_cast<double>(counts[k]) - weights[k] / sum * static_cast<double>(n)), bound)
            << "set " << k << " of " << testing::PrintToString(weights) << ", " << n;
      const auto [set, number] = order(n);
      ASSERT_EQ(number, counts.at(set)++);
    }
  }
}

// Far from the start, too: each place is the one after those that counts() says came before.
TEST(Interleaving, FarPlacesFitTheCounts) {
  for (const auto& weights : kWeights)
    for (const i64 begin : {(i64{1} << 40) + 7, (i64{1} << 61) - 1000}) {
      const Interleaving order(weights);
      std::vector<i64> counts = order.counts(begin);
      for (i64 n = begin; n < begin + 500; ++n) {
        const auto [set, number] = order(n);
        ASSERT_EQ(number, counts.at(set)++);
      }
      EXPECT_EQ(order.counts(begin + 500), counts);
    }
}

TEST(Interleaving, WholeWeightsAreExact) {
  EXPECT_EQ(Interleaving({3, 1}).counts(i64{4} << 58), (std::vector<i64>{i64{3} << 58, i64{1} << 58}));
  EXPECT_EQ(Interleaving({1, 1, 1}).counts(i64{3} << 58), (std::vector<i64>(3, i64{1} << 58)));
}

TEST(Interleaving, IsTheSameForEver) {  // part of the exactness contract, as the permutation is
  std::vector<std::size_t> sets;
  const Interleaving order({5, 1, 3});
  for (i64 n = 0; n < 18; ++n) sets.push_back(order(n).set);
  EXPECT_EQ(sets, (std::vector<std::size_t>{0, 2, 0, 0, 2, 1, 0, 2, 0, 0, 2, 0, 0, 2, 1, 0, 2, 0}));
}

class MixtureTest : public testing::Test {
 protected:
  static constexpr i64 kLength = 7;

  Dataset make(const std::string& name, int documents) const {
    DatasetWriter writer(dir_ / name, sample_tokenizer().identity(), 500);
    for (const std::string& text : sample_documents(documents))
      writer.add(sample_tokenizer().encode(text), static_cast<i64>(text.size()), static_cast<i64>(text.size()));
    writer.finish();
    return Dataset::open(dir_ / name);
  }
  Mixture mixture() const {
    std::vector<MixedSet> sets;
    sets.push_back({"few", 2, make("few", 4)});
    sets.push_back({"many", 1, make("many", 30)});
    return Mixture(std::move(sets));
  }
  std::vector<Row> rows(const Mixture& m, const LoaderOptions& o, std::size_t n) const {
    Loader loader(m.sequences(kLength, Packing::concat), o);
    std::vector<Row> out;
    TokenBatch batch;
    while (out.size() < n && loader.next(batch))
      for (i64 r = 0; r < batch.sequences; ++r)
        out.emplace_back(batch.ids.begin() + r * batch.length, batch.ids.begin() + (r + 1) * batch.length);
    out.resize(n);
    return out;
  }

  TempDir dir_;
};

// Each set in its own epochs, each epoch in its own order, whichever sequences of others lie between.
TEST_F(MixtureTest, SequencesAreThoseOfTheSetsInTheirOwnOrders) {
  const Mixture m = mixture();
  const Interleaving order({2, 1});
  const std::vector<Row> all = rows(m, {.batch_size = 3, .seed = 5}, 600);
  for (std::size_t n = 0; n < all.size(); ++n) {
    const auto [set, number] = order(static_cast<i64>(n));
    const Dataset& data = m.sets()[set].data;
    const i64 windows = Windows{data.total_tokens(), kLength}.count();
    Row expected(kLength);
    data.read(Permutation(5, static_cast<std::uint64_t>(number / windows), windows, set)(number % windows) * kLength,
              kLength, expected.data());
    ASSERT_EQ(all[n], expected) << n;
  }
  EXPECT_GT(m.counts(600)[0],
            2 * Windows({m.sets()[0].data.total_tokens(), kLength}).count());  // epochs of the small one
}

TEST_F(MixtureTest, BatchesRanksAndResumptionChangeNothing) {
  const Mixture m = mixture();
  const std::vector<Row> all = rows(m, {.batch_size = 1, .seed = 5}, 400);
  EXPECT_EQ(rows(m, {.batch_size = 12, .micro_batch_size = 5, .seed = 5, .ahead = 1}, 400), all);
  EXPECT_EQ(rows(m, {.batch_size = 4, .first_sequence = 123, .seed = 5}, 200),
            std::vector<Row>(all.begin() + 123, all.begin() + 323));
  const std::vector<Row> second = rows(m, {.batch_size = 6, .begin = 3, .end = 6, .seed = 5}, 150);
  for (std::size_t i = 0; i < second.size(); ++i) EXPECT_EQ(second[i], all[i / 3 * 6 + 3 + i % 3]);
}

TEST_F(MixtureTest, OneSetAloneIsThatSet) {
  std::vector<MixedSet> one;
  one.push_back({"few", 3, make("few", 4)});
  const Mixture m(std::move(one));
  const Dataset& data = m.sets()[0].data;
  EXPECT_EQ(m.fingerprint(), data.fingerprint());
  Loader alone(data, {.context_length = kLength, .batch_size = 200, .seed = 5});
  TokenBatch batch;
  alone.next(batch);
  const std::vector<Row> mixed = rows(m, {.batch_size = 1, .seed = 5}, 200);
  for (std::size_t r = 0; r < 200; ++r)
    EXPECT_EQ(mixed[r], Row(batch.ids.begin() + static_cast<i64>(r) * kLength,
                            batch.ids.begin() + static_cast<i64>(r + 1) * kLength));
}

TEST_F(MixtureTest, TheFingerprintKnowsSetsWeightsAndOrder) {
  const auto of = [&](const std::vector<std::pair<int, double>>& parts) {
    std::vector<MixedSet> sets;
    for (const auto& [documents, weight] : parts)
      sets.push_back({"", weight, make(fmt::format("set{}", documents), documents)});
    return Mixture(std::move(sets)).fingerprint();
  };
  const std::string base = of({{4, 1}, {9, 2}});
  EXPECT_EQ(of({{4, 1}, {9, 2}}), base);
  EXPECT_NE(of({{4, 1}, {9, 3}}), base);
  EXPECT_NE(of({{9, 2}, {4, 1}}), base);
  EXPECT_NE(of({{4, 1}, {10, 2}}), base);
}

}  // namespace
}  // namespace xlstm
