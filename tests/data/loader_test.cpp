#include "data/loader.h"

#include <gmock/gmock.h>

#include <fstream>
#include <set>

#include "data/dataset_writer.h"
#include "support.h"

namespace xlstm {
namespace {

using testing::HasSubstr;
using Row = std::vector<std::int32_t>;

class LoaderTest : public testing::Test {
 protected:
  static constexpr i64 kLength = 7;

  LoaderTest() {
    DatasetWriter writer(dir_ / "data", sample_tokenizer().identity(), 500);
    for (const std::string& text : sample_documents(20))
      writer.add(sample_tokenizer().encode(text), static_cast<i64>(text.size()), static_cast<i64>(text.size()));
    writer.finish();
    data_ = std::make_unique<Dataset>(Dataset::open(dir_ / "data"));
  }

  LoaderOptions options(i64 batch_size) const {
    LoaderOptions o;
    o.context_length = kLength;
    o.batch_size = batch_size;
    o.seed = 5;
    return o;
  }

  // The first `n` input rows that a loader gives, or all.
  std::vector<Row> rows(const LoaderOptions& o, std::size_t n) const {
    Loader loader(*data_, o);
    std::vector<Row> out;
    TokenBatch batch;
    while (out.size() < n && loader.next(batch))
      for (i64 r = 0; r < batch.sequences; ++r)
        out.emplace_back(batch.ids.begin() + r * batch.length, batch.ids.begin() + (r + 1) * batch.length);
    if (out.size() > n) out.resize(n);
    return out;
  }

  TempDir dir_;
  std::unique_ptr<Dataset> data_;
};

TEST_F(LoaderTest, BatchesHoldInputsTargetsAndStarts) {
  const LoaderOptions o = options(3);
  Loader loader(*data_, o);
  TokenBatch batch;
  ASSERT_TRUE(loader.next(batch));
  EXPECT_EQ(batch.sequences, 3);
  EXPECT_EQ(batch.length, kLength);
  EXPECT_EQ(batch.ids.size(), 21u);
  EXPECT_EQ(batch.targets.size(), 21u);
  std::vector<std::int32_t> window(kLength + 1);
  for (i64 r = 0; r < 3; ++r) {
    data_->read(shuffled(5, r, loader.sequences()) * kLength, kLength + 1, window.data());
    for (i64 t = 0; t < kLength; ++t) {
      const auto at = static_cast<std::size_t>(r * kLength + t);
      EXPECT_EQ(batch.ids[at], window[static_cast<std::size_t>(t)]);
      EXPECT_EQ(batch.targets[at], window[static_cast<std::size_t>(t) + 1]);
      EXPECT_EQ(batch.starts[at], t == 0 || batch.ids[at] == data_->eod_id());
    }
  }
}

TEST_F(LoaderTest, DocumentsStartAfterTheirPredecessorsEnd) {
  LoaderOptions o = options(1);
  o.order = LoaderOptions::Order::sequential;
  Loader loader(*data_, o);
  TokenBatch batch;
  i64 inside = 0;
  while (loader.next(batch))
    for (std::size_t t = 1; t < batch.ids.size(); ++t) inside += batch.starts[t];
  EXPECT_GT(inside, 5);
}

TEST_F(LoaderTest, CuttingIntoBatchesChangesNothing) {
  const auto one = rows(options(1), 500);
  EXPECT_EQ(rows(options(4), 500), one);
  LoaderOptions o = options(12);
  o.micro_batch_size = 5;
  o.ahead = 1;
  EXPECT_EQ(rows(o, 500), one);
}

TEST_F(LoaderTest, EveryEpochVisitsEveryWindowInAnotherOrder) {
  const i64 n = Loader(*data_, options(1)).sequences();
  EXPECT_EQ(n, (data_->total_tokens() - 1) / kLength);
  std::set<i64> first, second;
  int same = 0;
  for (i64 s = 0; s < n; ++s) {
    first.insert(shuffled(5, s, n));
    second.insert(shuffled(5, n + s, n));
    same += shuffled(5, s, n) == shuffled(5, n + s, n);
  }
  EXPECT_EQ(static_cast<i64>(first.size()), n);
  EXPECT_EQ(static_cast<i64>(second.size()), n);
  EXPECT_LE(same, 10);  // 1 expected
}

TEST_F(LoaderTest, ResumingAtASequenceEqualsSkippingToIt) {
  const auto all = rows(options(4), 400);
  for (const i64 s : {1, 4, 17, 255}) {
    LoaderOptions o = options(4);
    o.first_sequence = s;
    EXPECT_EQ(rows(o, 100), std::vector<Row>(all.begin() + s, all.begin() + s + 100));
  }
}

TEST_F(LoaderTest, RanksReadTheirPartOfEachGlobalBatch) {
  const auto all = rows(options(6), 60);
  std::vector<std::vector<Row>> parts;
  for (const i64 rank : {0, 1, 2}) {
    LoaderOptions o = options(6);
    o.begin = rank * 2;
    o.end = rank * 2 + 2;
    parts.push_back(rows(o, 20));
  }
  for (std::size_t s = 0; s < 60; ++s) EXPECT_EQ(parts[s % 6 / 2][s / 6 * 2 + s % 2], all[s]);
}

TEST_F(LoaderTest, SequentialReadsEveryWindowOnce) {
  for (const i64 batch_size : {1, 4, 7}) {
    LoaderOptions o = options(batch_size);
    o.order = LoaderOptions::Order::sequential;
    const auto found = rows(o, 1u << 20);
    ASSERT_EQ(static_cast<i64>(found.size()), Loader(*data_, o).sequences());
    Row window(kLength);
    for (std::size_t w = 0; w < found.size(); ++w) {
      data_->read(static_cast<i64>(w) * kLength, kLength, window.data());
      EXPECT_EQ(found[w], window);
    }
  }
}

TEST_F(LoaderTest, TooFewTokensAreRefusedWithWhatWouldFit) {
  LoaderOptions o = options(1);
  o.context_length = data_->total_tokens();
  EXPECT_THAT(user_error_of([&] { Loader loader(*data_, o); }),
              HasSubstr(fmt::format("the longest that fits is {}", data_->total_tokens() - 1)));
  o.context_length -= 1;
  EXPECT_EQ(Loader(*data_, o).sequences(), 1);
}

TEST_F(LoaderTest, ErrorsOfTheThreadReachTheCaller) {
  const fs::path shard = tokens_path(data_->folder(), data_->manifest().shards[0]);
  std::fstream(shard, std::ios::in | std::ios::out | std::ios::binary) << "\xFF\xFF";
  const std::string message = user_error_of([&] { rows(options(4), 1000); });
  EXPECT_THAT(message, HasSubstr("token 0: id 65535"));
}

TEST_F(LoaderTest, CanBeDroppedAtAnyTime) {
  for (int batches = 0; batches < 6; ++batches) {
    Loader loader(*data_, options(2));
    TokenBatch batch;
    for (int i = 0; i < batches; ++i) loader.next(batch);
    EXPECT_GE(loader.seconds_waited(), 0);
  }
}

}  // namespace
}  // namespace xlstm
