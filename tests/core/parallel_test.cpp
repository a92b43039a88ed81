// The pool of threads: every task once, whoever calls, and no thread in anybody's way.
#include "core/parallel.h"

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <numeric>
#include <thread>

#include "tests/core/support.h"

namespace xlstm {
namespace {

using testing::Each;

class ParallelTest : public testing::Test {
 protected:
  ~ParallelTest() override { set_threads(0); }
};

TEST_F(ParallelTest, EveryTaskOnce) {
  for (const int threads : {1, 2, 5, 3}) {
    set_threads(threads);
    EXPECT_EQ(max_threads(), threads);
    for (const i64 tasks : {0, 1, 2, 1000}) {
      std::vector<int> done(static_cast<std::size_t>(tasks));
      parallel_for(tasks, [&](i64 task) { ++done[static_cast<std::size_t>(task)]; });
      EXPECT_THAT(done, Each(1));
    }
  }
  set_threads(0);
  EXPECT_EQ(max_threads(), usable_cores());
}

TEST_F(ParallelTest, BlocksAreCutByShapeAlone) {
  std::vector<std::pair<i64, i64>> blocks(3);
  parallel_blocks(10, 4, [&](i64 begin, i64 end) { blocks[static_cast<std::size_t>(begin / 4)] = {begin, end}; });
  EXPECT_EQ(blocks, (std::vector<std::pair<i64, i64>>{{0, 4}, {4, 8}, {8, 10}}));
  parallel_blocks(0, 4, [&](i64, i64) { FAIL(); });
}

// Tasks that wait for each other need as many threads; what each of them notes without a lock, the caller then reads.
TEST_F(ParallelTest, ThreadsHaveIndicesOfTheirOwn) {
  constexpr int kThreads = 4;
  set_threads(kThreads);
  std::atomic<int> arrived = 0;
  std::vector<int> index(kThreads);
  parallel_for(kThreads, [&](i64 task) {
    index[static_cast<std::size_t>(task)] = thread_index();
    for (++arrived; arrived < kThreads;) std::this_thread::yield();
  });
  EXPECT_THAT(index, testing::UnorderedElementsAre(0, 1, 2, 3));
  EXPECT_EQ(thread_index(), 0);
}

TEST_F(ParallelTest, FewerThreadsThanBefore) {
  set_threads(5);
  parallel_for(100, [](i64) {});
  set_threads(2);
  std::atomic<int> largest = 0;
  for (int loop = 0; loop < 100; ++loop)
    parallel_for(100, [&](i64) {
      if (thread_index() > largest) largest = thread_index();
    });
  EXPECT_LT(largest, 2);
}

TEST_F(ParallelTest, ALoopWithinATaskIsItsOwn) {
  set_threads(3);
  std::vector<i64> sums(20);
  parallel_for(20, [&](i64 task) {
    const int index = thread_index();
    parallel_for(50, [&, task](i64 i) {
      EXPECT_EQ(thread_index(), index);
      sums[static_cast<std::size_t>(task)] += i;
    });
  });
  EXPECT_THAT(sums, Each(50 * 49 / 2));
}

TEST_F(ParallelTest, LoopsOfSeveralThreadsAtOnce) {
  set_threads(3);
  std::vector<i64> sums(4);
  std::vector<std::thread> callers;
  for (i64& sum : sums)
    callers.emplace_back([&sum] {
      for (int loop = 0; loop < 300; ++loop) {
        std::vector<i64> parts(40);
        parallel_for(40, [&](i64 task) { parts[static_cast<std::size_t>(task)] = task; });
        sum += std::accumulate(parts.begin(), parts.end(), i64{0});
      }
    });
  for (std::thread& caller : callers) caller.join();
  EXPECT_THAT(sums, Each(300 * 40 * 39 / 2));
}

// Threads that wait take no time from others.
TEST_F(ParallelTest, WaitingThreadsSleep) {
  const auto used = [] {
    rusage u{};
    getrusage(RUSAGE_SELF, &u);
    return static_cast<double>(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           1e-6 * static_cast<double>(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
  };
  set_threads(2);
  parallel_for(2, [](i64) {});
  const double before = used();
  for (int loop = 0; loop < 20; ++loop) {
    parallel_for(2, [](i64) {});
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  EXPECT_LT(used() - before, 0.03);
}

#ifndef __SANITIZE_THREAD__  // which knows no threads after a fork
TEST_F(ParallelTest, AForkedChildHasThreadsOfItsOwn) {
  set_threads(3);
  parallel_for(10, [](i64) {});
  const pid_t child = fork();
  if (child == 0) {
    std::atomic<int> arrived = 0;
    parallel_for(3, [&](i64) {
      for (++arrived; arrived < 3;) std::this_thread::yield();
    });
    _exit(arrived == 3 ? 7 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 7) << status;
}

TEST_F(ParallelTest, TheProcessEndsWhateverTheThreadsDo) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto end_after_loops = [] {
    for (int loop = 0; loop < 100; ++loop) parallel_for(10, [](i64) {});
    std::exit(7);
  };
  const auto end_in_a_task = [] {
    parallel_for(10, [](i64 task) {
      if (task == 1) std::exit(7);
    });
  };
  set_threads(3);
  EXPECT_EXIT(end_after_loops(), testing::ExitedWithCode(7), "");
  EXPECT_EXIT(end_in_a_task(), testing::ExitedWithCode(7), "");
}
#endif

TEST_F(ParallelTest, TheirNumberIsFixedWithinATask) {
  set_threads(2);
  std::atomic<int> refused = 0;
  parallel_for(2, [&](i64) { refused += error_of<Error>([] { set_threads(1); }).find("task") != std::string::npos; });
  EXPECT_EQ(refused, 2);
}

}  // namespace
}  // namespace xlstm
