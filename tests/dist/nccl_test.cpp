// The schedule of collectives on GPUs, against an NCCL of threads.
#include <gmock/gmock.h>

#include <numeric>

#include "tests/support/fake_nccl.h"
#include "tests/support/thread_ranks.h"

namespace xlstm {
namespace {

using testing::Each;
using testing::ElementsAreArray;

constexpr int kRanks = 4;
const std::vector<i64> kBorders{0, 3, 3, 8, 10};  // one rank has nothing

// values(rank, i) = 100 rank + i
std::vector<float> row_of(int rank) {
  std::vector<float> row(10);
  std::iota(row.begin(), row.end(), static_cast<float>(100 * rank));
  return row;
}

Tensor tensor(std::vector<float>& v) { return make_tensor(v.data(), DType::f32, 1, static_cast<i64>(v.size())); }

void over_fake_nccl(const std::function<void(Communicator&, FakeNccl&)>& body) {
  FakeWire wire;
  EXPECT_THAT(run_ranks(kRanks,
                        [&](Communicator& host) {
                          auto calls = std::make_unique<FakeNccl>(wire);
                          FakeNccl& fake = *calls;
                          const auto ranks = make_nccl_communicator(host, std::move(calls));
                          body(*ranks, fake);
                        }),
              Each(""));
}

TEST(Nccl, ExchangeBringsEveryRanksValuesOfMyPiece) {
  over_fake_nccl([](Communicator& ranks, FakeNccl&) {
    const auto me = static_cast<std::size_t>(ranks.rank());
    const i64 mine = kBorders[me + 1] - kBorders[me];
    std::vector<float> row = row_of(ranks.rank()), received(static_cast<std::size_t>(mine * kRanks), -1);
    Context ctx;
    const i64 number = ranks.begin(ctx, {.kind = Collective::Kind::exchange,
                                         .what = "x",
                                         .row = tensor(row),
                                         .received = tensor(received),
                                         .borders = kBorders});
    EXPECT_THAT(received, Each(-1)) << "landed before it was waited for";
    ranks.finish(ctx, number);
    EXPECT_EQ(row, row_of(ranks.rank()));
    i64 sent = 0;
    for (int r = 0; r < kRanks; ++r) {
      const auto other = static_cast<std::size_t>(r);
      for (i64 i = 0; i < mine; ++i)
        EXPECT_EQ(received[static_cast<std::size_t>(r * mine + i)],
                  r == ranks.rank() ? -1 : row_of(r)[static_cast<std::size_t>(kBorders[me] + i)]);
      sent += r == ranks.rank() ? 0 : 4 * (kBorders[other + 1] - kBorders[other]);
    }
    EXPECT_EQ(ranks.sent_bytes(), sent);
  });
}

TEST(Nccl, GatherBringsThePiecesOfAll) {
  over_fake_nccl([](Communicator& ranks, FakeNccl&) {
    std::vector<float> row = row_of(ranks.rank()), expected;
    for (int r = 0; r < kRanks; ++r)
      for (i64 i = kBorders[static_cast<std::size_t>(r)]; i < kBorders[static_cast<std::size_t>(r) + 1]; ++i)
        expected.push_back(row_of(r)[static_cast<std::size_t>(i)]);
    Context ctx;
    ranks.finish(
        ctx,
        ranks.begin(ctx, {.kind = Collective::Kind::gather, .what = "x", .row = tensor(row), .borders = kBorders}));
    EXPECT_THAT(row, ElementsAreArray(expected));
  });
}

TEST(Nccl, SeveralAtOnceComeInTheirOrder) {
  over_fake_nccl([](Communicator& ranks, FakeNccl& fake) {
    std::vector<float> a = row_of(ranks.rank()), b(10, 1);
    Context ctx;
    const i64 first = ranks.begin(ctx, {.kind = Collective::Kind::sum, .what = "a", .row = tensor(a)});
    const i64 second = ranks.begin(ctx, {.kind = Collective::Kind::sum, .what = "b", .row = tensor(b)});
    ranks.finish(ctx, first);
    EXPECT_EQ(a[1], 0 + 100 + 200 + 300 + 4);
    EXPECT_TRUE(fake.reached(first) && !fake.reached(second));
    ranks.finish(ctx, second);
    EXPECT_THAT(b, Each(kRanks));
  });
}

}  // namespace
}  // namespace xlstm
