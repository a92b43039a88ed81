// The schedule of collectives on GPUs, against an NCCL of threads.
#include <gmock/gmock.h>

#include <atomic>
#include <numeric>

#include "dist/watchdog.h"
#include "tests/support/fake_nccl.h"
#include "tests/support/thread_ranks.h"

namespace xlstm {
namespace {

using testing::AllOf;
using testing::Each;
using testing::ElementsAreArray;
using testing::HasSubstr;
using testing::ThrowsMessage;

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

// Rank 1 does not come to `call`, which the library settles for all together; rank 0 waits, with a watchdog beside it
// that hears of it what `host` tells. Returns what that says in the end.
std::string told_of_rank_0(const std::string& call,
                           const std::function<void(Communicator& host, std::unique_ptr<NcclCalls>)>& work) {
  Watchdog watchdog(0, {"here", "there"}, /*now=*/0);
  watchdog.set_timeout(20);
  FakeWire wire;
  std::atomic<bool> over = false;
  const auto wrong = run_ranks(2, [&](Communicator& host) {
    auto calls = std::make_unique<FakeNccl>(wire);
    double now = 0;
    calls->while_unsettled = [&] {
      if (over) throw GpuError("the job has ended");
      if (!host.first()) return;
      const Communicator::DeviceWait wait = ask_device(host);
      ASSERT_TRUE(wait.what && wait.error.empty());
      if (wait.what != call) return;  // another one, to which rank 1 will come
      if (now == 0) {
        watchdog.mine.begun = 2;
        watchdog.waits(2, wait.what, wait.part, wait.number, now);
      }
      now += 0.5;
      Beat behind{.begun = 1};
      behind.name("gather of weights", 3);
      watchdog.heard(1, behind, now);
      const auto why = watchdog.verdict(now, /*hurry=*/false);
      over = why.has_value();
      if (why) throw std::runtime_error(*why);
    };
    work(host, std::move(calls));
  });
  return wrong[0];
}

TEST(Nccl, ARankThatDoesNotComeToTheStartIsNamedInTime) {
  const std::string said = told_of_rank_0("start of NCCL", [](Communicator& host, std::unique_ptr<NcclCalls> calls) {
    if (host.first()) return void(make_nccl_communicator(host, std::move(calls)));
    host.gather_texts("NCCL", "");  // as far as it comes, before it hangs
    host.gather_texts("NCCL", "");
  });
  EXPECT_THAT(said, AllOf(HasSubstr("in 'start of NCCL' for rank 1 (there), which hangs"), HasSubstr("has waited 14 s"),
                          HasSubstr("having begun 'gather of weights 3'")));
}

TEST(Nccl, ARankThatDoesNotConnectIsNamedInTime) {
  const std::string said = told_of_rank_0("sum of gradients", [](Communicator& host, std::unique_ptr<NcclCalls> calls) {
    const auto ranks = make_nccl_communicator(host, std::move(calls));
    if (!host.first()) return;
    std::vector<float> row = row_of(0);
    Context ctx;
    ranks->begin(ctx, {.kind = Collective::Kind::sum, .what = "sum of gradients", .part = 4, .row = tensor(row)});
  });
  EXPECT_THAT(said, AllOf(HasSubstr("in 'sum of gradients 4' for rank 1 (there)")));
}

TEST(Nccl, ACallThatFailsWhileItGoesOnIsAnErrorOfTheRank) {
  FakeWire wire;
  const auto wrong = run_ranks(2, [&](Communicator& host) {
    auto calls = std::make_unique<FakeNccl>(wire);
    calls->while_unsettled = [&] {
      if (host.first()) throw GpuError("ncclCommInitRank: remote process exited");
    };
    if (host.first()) return void(make_nccl_communicator(host, std::move(calls)));
    host.gather_texts("NCCL", "");
    host.gather_texts("NCCL", "");
  });
  EXPECT_EQ(wrong[0], "step 0: 'start of NCCL' failed on the GPU: ncclCommInitRank: remote process exited");
}

// What the library reports at once, and what it reports later to who asks: the rank and its host come before it where
// it is told.
TEST(Nccl, AnErrorNamesStepAndCollective) {
  FakeWire wire;
  const auto wrong = run_ranks(2, [&](Communicator& host) {
    auto calls = std::make_unique<FakeNccl>(wire);
    FakeNccl& fake = *calls;
    const auto ranks = make_nccl_communicator(host, std::move(calls));
    std::vector<float> row = row_of(0);
    Context ctx;
    const auto begin = [&](i64 part) {
      return ranks->begin(
          ctx, {.kind = Collective::Kind::sum, .what = "sum of gradients", .part = part, .row = tensor(row)});
    };
    ranks->at_step(7);
    ranks->finish(ctx, begin(3));
    EXPECT_EQ(ask_device(host).error, "");
    ranks->at_step(8);
    const i64 number = begin(4);
    fake.error = "remote process exited";
    EXPECT_EQ(ask_device(host).error, "step 8: 'sum of gradients 4' failed on the GPU: NCCL: remote process exited");
    fake.fails = "cudaStreamWaitEvent: unspecified launch failure";
    EXPECT_THAT([&] { ranks->finish(ctx, number); },
                ThrowsMessage<GpuError>("step 8: 'sum of gradients 4' failed on the GPU: " + fake.fails));
    fake.fails = "ncclAllReduce: invalid usage";
    begin(5);
  });
  EXPECT_THAT(wrong, Each("step 8: 'sum of gradients 5' failed on the GPU: ncclAllReduce: invalid usage"));
}

TEST(Nccl, ABuildWithoutSaysHowToGetIt) {
  if (!nccl_version().empty()) GTEST_SKIP() << "built with " << nccl_version();
  try {
    expect_nccl();
    ADD_FAILURE();
  } catch (const UserError& e) {
    EXPECT_THAT(e.what(), AllOf(HasSubstr("built without: install libnccl-dev"), HasSubstr("scripts/build.sh cuda")));
  }
}

}  // namespace
}  // namespace xlstm
