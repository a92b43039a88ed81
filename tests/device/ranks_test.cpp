// Several ranks in bf16: each has the masters of its share alone, and the rounded weights of all.
#include <gmock/gmock.h>

#include <numeric>

#include "core/hash.h"
#include "dist/nccl.h"
#include "tests/device/device.h"
#include "tests/support/thread_ranks.h"
#include "tests/train/run_rig.h"
#include "train/replica_check.h"

namespace xlstm {
namespace {

TrainConfig shared_bf16_run() {
  TrainConfig cfg = tiny_run();
  cfg.run.device = DeviceChoice::cuda;
  cfg.run.precision = Precision::bf16;
  cfg.model.embedding_dim = 64;
  cfg.train = {.steps = 3, .batch_size = 4, .micro_batch_size = 1, .context_length = 16};
  cfg.checkpoint.every = 0;  // saves beside the run would need a turn of their own
  cfg.eval.every = 0;
  cfg.parallel.check_interval = 1;
  cfg.resolve();
  return cfg;
}

void train(const fs::path& dir, std::optional<i64> stop_at, bool shared = true) {
  TrainConfig cfg = shared_bf16_run();
  cfg.parallel.shard_optimizer = shared;
  const auto wrong = run_ranks(
      2,
      [&](Communicator& ranks) {
        Trainer trainer(dir, cfg, {"test"}, &ranks);
        EXPECT_LT(trainer.state().own_masters.cols, trainer.state().params.flat_size());
        trainer.run(stop_at);
      },
      Turns::one_at_a_time);
  EXPECT_THAT(wrong, testing::Each(""));
}

TEST(DeviceRanks, SharedMastersHaveTheBitsOfWholeOnes) {
  TempDir one, two, parts, unshared;
  ASSERT_EQ(run_in(one.path(), shared_bf16_run()), RunOutcome::finished);
  train(two.path(), {});
  train(parts.path(), 1);
  ASSERT_EQ(run_in(parts.path(), shared_bf16_run(), 2), RunOutcome::stopped);
  train(parts.path(), {});
  train(unshared.path(), 2, /*shared=*/false);
  train(unshared.path(), {}, /*shared=*/false);
  for (const fs::path& dir : {two.path(), parts.path(), unshared.path()}) {
    EXPECT_EQ(final_weights(dir), final_weights(one.path()));
    EXPECT_EQ(metric(dir, "loss"), metric(one.path(), "loss"));
    EXPECT_EQ(metric(dir, "grad_norm"), metric(one.path(), "grad_norm"));
  }
}

TEST(DeviceRanks, AChecksumThatIsTakenInPiecesIsThatOfTheWhole) {
  test::TestDevice device;
  for (const std::size_t n : {1u, 63u, 64u, 65u, 500u}) {
    std::vector<float> values(n);
    std::iota(values.begin(), values.end(), 1.0f);
    EXPECT_EQ(checksum(device.ctx, device.put(values), /*chunk_bytes=*/256), xxh3_hex(values.data(), n * sizeof(float)))
        << n;
  }
}

// NCCL itself, where there is a GPU and this build has it.
class DeviceNccl : public testing::Test {
 protected:
  void SetUp() override {
    if (nccl_version().empty()) GTEST_SKIP() << "built without NCCL";
    if (nccl_library_version().empty()) GTEST_SKIP() << "libnccl.so.2 is not here";
    try {
      open_gpu(0);
    } catch (const std::exception& e) {
      GTEST_SKIP() << e.what();
    }
  }
};

// Rank r has 100 r + i; three collectives, and an end.
void exchange_over_nccl(Communicator& host) {
  test::TestDevice device;
  const auto ranks = make_nccl_communicator(host, *device.ctx.gpu);
  const int size = ranks->size(), me = ranks->rank();
  constexpr i64 kPiece = 5;
  const i64 n = size * kPiece;
  std::vector<i64> borders;
  for (i64 r = 0; r <= size; ++r) borders.push_back(r * kPiece);
  const auto value = [](i64 rank, i64 i) { return static_cast<float>(100 * rank + i); };
  std::vector<float> mine;
  for (i64 i = 0; i < n; ++i) mine.push_back(value(me, i));
  const Tensor summed = device.put(mine), gathered = device.put(mine), sent = device.put(mine),
               received = device.put(std::vector<float>(static_cast<std::size_t>(n), -1.0f));
  using Kind = Collective::Kind;
  const std::vector<i64> begun{
      ranks->begin(device.ctx, {.kind = Kind::sum, .what = "sum", .row = summed}),
      ranks->begin(device.ctx, {.kind = Kind::gather, .what = "gather", .row = gathered, .borders = borders}),
      ranks->begin(
          device.ctx,
          {.kind = Kind::exchange, .what = "exchange", .row = sent, .received = received, .borders = borders})};
  for (const i64 number : begun) ranks->finish(device.ctx, number);
  const auto sum = device.get<float>(summed), all = device.get<float>(gathered), pieces = device.get<float>(received);
  for (i64 i = 0; i < n; ++i) {
    float total = 0;
    for (int r = 0; r < size; ++r) total += value(r, i);
    const auto at = static_cast<std::size_t>(i);
    EXPECT_EQ(sum[at], total) << i;
    EXPECT_EQ(all[at], value(i / kPiece, i)) << i;
    EXPECT_EQ(pieces[at], i / kPiece == me ? -1.0f : value(i / kPiece, me * kPiece + i % kPiece)) << i;
  }
}

TEST_F(DeviceNccl, OneRank) {
  const auto host = make_single_process_communicator();
  exchange_over_nccl(*host);
}

// NCCL refuses two ranks on one GPU, unless it is told otherwise.
TEST_F(DeviceNccl, TwoRanksOnOneGpu) {
  for (const std::string& wrong : run_ranks(2, exchange_over_nccl)) {
    if (wrong.find("Duplicate GPU") != std::string::npos || wrong.find("invalid usage") != std::string::npos)
      GTEST_SKIP() << wrong;
    EXPECT_EQ(wrong, "");
  }
}

TEST(DeviceRanks, WithoutNcclAllRanksSayHowToGetIt) {
  if (!nccl_version().empty()) GTEST_SKIP() << "built with NCCL " << nccl_version();
  const auto wrong = run_ranks(2, [](Communicator& host) {
    test::TestDevice device;
    make_nccl_communicator(host, *device.ctx.gpu);
  });
  EXPECT_THAT(wrong, testing::Each(testing::AllOf(testing::HasSubstr("built without: install libnccl-dev"),
                                                  testing::HasSubstr("scripts/build.sh cuda"))));
}

}  // namespace
}  // namespace xlstm
