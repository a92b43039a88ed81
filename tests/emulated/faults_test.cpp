// Every kind of fault that the emulator claims to find, planted once. What is right passes under every schedule.
#include <cmath>

#include "tests/emulated/support.h"

namespace xlstm {
namespace {

using namespace dialect;
using emulator::Arrival;
using testing::HasSubstr;

constexpr int kThreads = kEmulatedThreads;

std::uint32_t slot(int i) { return shared_begin() + static_cast<std::uint32_t>(i) * 4; }

// Every thread writes its slot and reads that of another warp.
TEST(Emulator, ReadWithoutABarrierIsARace) {
  const auto kernel = [](bool with_barrier) {
    shared_store(slot(thread_index()), float(thread_index()));
    if (with_barrier) sync_cta();
    const int next = (thread_index() + 32) % kThreads;
    const float value = shared_load<float>(slot(next));
    if (with_barrier) {
      EXPECT_EQ(value, float(next));
    }
  };
  EXPECT_EQ(fault_of([&] { kernel(true); }), "");
  EXPECT_THAT(fault_of([&] { kernel(false); }), HasSubstr("race"));
}

TEST(Emulator, WriteBeforeOthersHaveReadIsARace) {
  const auto kernel = [](bool with_barrier) {
    shared_store(slot(thread_index()), 1.f);
    sync_cta();
    shared_load<float>(slot((thread_index() + 64) % kThreads));
    if (with_barrier) sync_cta();
    shared_store(slot(thread_index()), 2.f);
  };
  EXPECT_EQ(fault_of([&] { kernel(true); }), "");
  EXPECT_THAT(fault_of([&] { kernel(false); }), HasSubstr("race"));
}

TEST(Emulator, LanesOfAWarpNeedOrderToo) {
  const auto kernel = [](bool with_order) {
    shared_store(slot(thread_index()), 1.f);
    if (with_order) sync_warp();
    shared_load<float>(slot(thread_index() ^ 1));
  };
  EXPECT_EQ(fault_of([&] { kernel(true); }), "");
  EXPECT_THAT(fault_of([&] { kernel(false); }), HasSubstr("race"));
}

TEST(Emulator, TwoWritersAreARace) {
  EXPECT_THAT(fault_of([] { shared_store(shared_begin(), float(thread_index())); }), HasSubstr("two writes"));
}

TEST(Emulator, SharedMemoryHasAnEnd) {
  EXPECT_THAT(fault_of([] { shared_store(slot(thread_index() + 1000), 1.f); }), HasSubstr("outside"));
  EXPECT_THAT(fault_of([] { shared_load<float>(shared_begin() + 2); }), HasSubstr("aligned"));
}

TEST(Emulator, WritesOfHalfAWord) {
  EXPECT_THAT(fault_of([] { shared_store(slot(thread_index()), bf16{}); }), HasSubstr("less than 4 bytes"));
}

TEST(Emulator, WhatNobodyWroteIsNaN) {
  EXPECT_EQ(fault_of([] { EXPECT_TRUE(std::isnan(shared_load<float>(slot(thread_index())))); }), "");
}

TEST(Emulator, GlobalMemoryIsWhatWasRegistered) {
  std::vector<float> data(kThreads);
  const emulator::GlobalRange range(data.data(), data.size() * 4);
  EXPECT_EQ(fault_of([&] { global_store(&data[std::size_t(thread_index())], 1.f); }), "");
  EXPECT_THAT(fault_of([&] { global_load(data.data() + thread_index() + 1); }), HasSubstr("of a buffer of 512"));
  float elsewhere = 0;
  EXPECT_THAT(fault_of([&] { global_load(&elsewhere); }), HasSubstr("global memory"));
}

TEST(Emulator, GlobalMemoryIsAligned) {
  alignas(16) float x[8] = {};
  const emulator::GlobalRange range(x, sizeof x);
  EXPECT_EQ(fault_of([&] { global_load(x + 1); }), "");
  EXPECT_THAT(fault_of([&] { global_load(reinterpret_cast<const double*>(x + 1)); }), HasSubstr("not aligned to 8"));
}

TEST(Emulator, WholeWarpsAndClusters) {
  const auto fault = [](const emulator::LaunchConfig& config) -> std::string {
    try {
      emulator::launch(config, [] {});
    } catch (const emulator::EmulatorFault& found) {
      return found.what();
    }
    return "";
  };
  EXPECT_EQ(fault({.grid = {4, 1, 1}, .cluster = 2, .threads = 64, .shared_bytes = 0, .seed = 1}), "");
  EXPECT_THAT(fault({.grid = {1, 1, 1}, .cluster = 1, .threads = 33, .shared_bytes = 0, .seed = 1}),
              HasSubstr("whole warps"));
  EXPECT_THAT(fault({.grid = {3, 1, 1}, .cluster = 2, .threads = 32, .shared_bytes = 0, .seed = 1}),
              HasSubstr("whole clusters"));
}

TEST(Emulator, LanesThatPartAreFound) {
  EXPECT_THAT(fault_of([] {
                if (lane_index() < 16)
                  shuffle_xor(1.f, 1);
                else
                  sync_warp();
              }),
              HasSubstr("part"));
  EXPECT_THAT(fault_of([] {
                if (lane_index() != 5) shuffle_xor(1.f, 1);
              }),
              HasSubstr("deadlock"));
}

TEST(Emulator, BallotAsksEveryLane) {
  EXPECT_EQ(fault_of([] {
              const std::uint32_t odd = ballot(lane_index() % 2 == 1);
              EXPECT_EQ(odd, 0xaaaaaaaau);
              EXPECT_EQ(count_bits(odd), 16);
              EXPECT_EQ(lowest_bit(odd), 1);
            }),
            "");
  EXPECT_THAT(fault_of([] {
                if (lane_index() != 5) ballot(true);
              }),
              HasSubstr("deadlock"));
}

TEST(Emulator, BarriersThatNotAllReachAreFound) {
  EXPECT_THAT(fault_of([] {
                if (warp_index() != 2) sync_cta();
              }),
              HasSubstr("96 of 96 living threads wait at a barrier"));
}

struct alignas(16) Line {
  float values[4];
};

// Thread 0 copies a line that all read.
void copy_and_read(const Line& from, bool with_barrier) {
  if (thread_index() == 0) {
    copy_async_16(shared_begin(), &from, 16);
    commit_copies();
    wait_copies<0>();
  }
  if (with_barrier) sync_cta();
  const float value = shared_load<float>(shared_begin() + 4);
  if (with_barrier) {
    EXPECT_EQ(value, 2.f);
  }
}

TEST(Emulator, CopiesMustBeWaitedFor) {
  const Line line{{1, 2, 3, 4}};
  const emulator::GlobalRange range(&line, sizeof line);
  for (const Arrival arrival : {Arrival::late, Arrival::immediate}) {
    EXPECT_EQ(fault_of([&] { copy_and_read(line, true); }, {arrival}), "");
    EXPECT_THAT(fault_of([&] { copy_and_read(line, false); }, {arrival}), HasSubstr("race"));
  }
  EXPECT_THAT(fault_of([&] {
                if (thread_index() == 0) copy_async_16(shared_begin(), &line, 16);
                if (thread_index() == 0) commit_copies();
                sync_cta();
                shared_load<float>(shared_begin() + 4);
              }),
              HasSubstr("read before its copy was waited for"));
  EXPECT_THAT(fault_of([&] {
                copy_async_16(slot(4 * thread_index()), &line, 16);
                commit_copies();
              }),
              HasSubstr("never waited for"));
}

TEST(Emulator, CopiesFillUpWithZeros) {
  const Line line{{1, 2, 3, 4}};
  const emulator::GlobalRange range(&line, sizeof line);
  EXPECT_EQ(fault_of([&] {
              const std::uint32_t at = shared_begin() + static_cast<std::uint32_t>(thread_index()) * 16;
              copy_async_16(at, &line, 8);
              commit_copies();
              wait_copies<0>();
              EXPECT_EQ(shared_load<float>(at + 4), 2.f);
              EXPECT_EQ(shared_load<float>(at + 8), 0.f);
            }),
            "");
}

// a: (16, 16) and b: (16, 8) with whole numbers, through ldmatrix and mma: every fragment is where PTX puts it.
TEST(Emulator, MatrixFragments) {
  const auto a_at = [](int i, int k) { return float(i * 3 + k % 5 - 7); };
  const auto b_at = [](int k, int j) { return float(k - 2 * j + 1); };
  EXPECT_EQ(fault_of([&] {
              // a row by row at 0, b^T (column by column) at 512; rows of 16 bf16
              const int t = thread_index() % 32, warp = warp_index();
              const std::uint32_t a = shared_begin() + static_cast<std::uint32_t>(warp) * 1024, b = a + 512;
              for (int i = t; i < 128; i += 32) {
                const int row = i / 8, pair = i % 8 * 2;
                shared_store(a + static_cast<std::uint32_t>(i) * 4, pack_bf16(a_at(row, pair), a_at(row, pair + 1)));
                if (row < 8)
                  shared_store(b + static_cast<std::uint32_t>(i) * 4, pack_bf16(b_at(pair, row), b_at(pair + 1, row)));
              }
              sync_warp();
              std::uint32_t ra[4], rb[4];
              const auto row_of = [](int lane) { return static_cast<std::uint32_t>(lane) * 32; };
              load_matrices(ra, a + row_of(t % 16) + (t / 16) * 16);
              load_matrices(rb, b + row_of(t % 8) + (t / 8 % 2) * 16);
              float c[4] = {};
              mma_16x8x16(c, ra, rb[0], rb[1]);
              for (int j = 0; j < 4; ++j) {
                const int row = t / 4 + (j >= 2 ? 8 : 0), column = t % 4 * 2 + j % 2;
                float want = 0;
                for (int k = 0; k < 16; ++k) want += a_at(row, k) * b_at(k, column);
                EXPECT_EQ(c[j], want) << row << ", " << column;
              }
            }),
            "");
}

}  // namespace
}  // namespace xlstm
