// The same for the words of sm_90a: barriers, bulk copies, clusters.
#include <fmt/core.h>

#include "kernels/cuda/dialect_hopper.h"
#include "tests/emulated/support.h"

namespace xlstm {
namespace {

using namespace dialect;
using emulator::Arrival;
using testing::HasSubstr;

constexpr Arrival kArrivals[] = {Arrival::late, Arrival::immediate};

std::uint32_t at(std::uint32_t offset) { return shared_begin() + offset; }
constexpr std::uint32_t kBarrier = 16384;  // behind two tiles
Emulated roomy(Arrival arrival, int cluster = 1) { return {arrival, kBarrier + 64, cluster}; }

// A matrix of bf16 with 3 planes, 70 rows and 96 columns; element: its row and column.
struct Matrix {
  std::vector<bf16> data = std::vector<bf16>(3 * 70 * 104);
  emulator::GlobalRange range{data.data(), data.size() * 2};
  TensorMap map{data.data(), 96, 70, 3, 104, 70 * 104, 64};

  Matrix() {
    for (int plane = 0; plane < 3; ++plane)
      for (int r = 0; r < 70; ++r)
        for (int c = 0; c < 104; ++c) at(plane, r, c) = to_bf16(value(plane, r, c));
  }
  bf16& at(int plane, int r, int c) { return data[static_cast<std::size_t>((plane * 70 + r) * 104 + c)]; }
  static float value(int plane, int r, int c) { return static_cast<float>((plane * 70 + r) * 96 + c) / 64.F; }
};

float element(std::uint32_t tile, int r, int c) {
  const auto row = static_cast<std::uint32_t>(r), column = static_cast<std::uint32_t>(c);
  const auto pair = shared_load<std::uint32_t>(emulator::swizzled(tile + row * 128 + column / 2 * 4));
  return column % 2 ? high_half(pair) : low_half(pair);
}

void make_one_barrier(int arrivals) {
  if (thread_index() == 0) make_barrier(at(kBarrier), arrivals);
  barriers_are_made();
  sync_cluster();
}

TEST(HopperEmulator, NamedBarriersOrderThoseWhoTakePart) {
  const auto one_writer = [&](bool with_barrier) {
    if (warp_index() == 0 && lane_index() == 0) shared_store(at(64), 1.f);
    if (warp_index() == 0 && with_barrier) arrive_threads(1, 64);
    if (warp_index() == 1 && with_barrier) sync_threads(1, 64);
    if (warp_index() == 1) shared_load<float>(at(64));
  };
  EXPECT_EQ(fault_of([&] { one_writer(true); }), "");
  EXPECT_THAT(fault_of([&] { one_writer(false); }), HasSubstr("race"));
  EXPECT_THAT(fault_of([] { sync_threads(1, 256); }), HasSubstr("deadlock"));
  EXPECT_THAT(fault_of([] { arrive_threads(1, 64 + 32 * (warp_index() & 1)); }), HasSubstr("others for"));
}

// 512 threads begin with 128 registers each: half of them may have what the others gave, and no more.
TEST(HopperEmulator, NamedBarriersAreFullAtSomeTime) {
  EXPECT_THAT(fault_of([] { arrive_threads(1, 48); }), HasSubstr("more than 48 threads"));
}

TEST(HopperEmulator, RegistersAreTheCtasOwn) {
  const auto kernel = [](bool enough) {
    if (thread_index() < 256)
      give_registers<24>();
    else if (enough)
      take_registers<232>();
    else
      take_registers<240>();
  };
  const emulator::LaunchConfig config{.threads = 512};
  EXPECT_NO_THROW(emulator::launch(config, [&] { kernel(true); }));
  EXPECT_THROW(emulator::launch(config, [&] { kernel(false); }), emulator::EmulatorFault);
}

// Warp 0 writes and arrives, warp 1 waits and reads.
void hand_over(bool arrives, bool waits) {
  make_one_barrier(1);
  if (warp_index() == 0) {
    shared_store(at(static_cast<std::uint32_t>(lane_index()) * 4), 1.f);
    if (arrives) arrive(at(kBarrier));
  }
  if (warp_index() == 1) {
    if (waits) wait(at(kBarrier), 0);
    EXPECT_TRUE(!arrives || !waits || shared_load<float>(at(static_cast<std::uint32_t>(31 - lane_index()) * 4)) == 1.f);
    if (!waits) shared_load<float>(at(0));
  }
}

TEST(HopperEmulator, BarriersInSharedMemory) {
  EXPECT_EQ(fault_of([] { hand_over(true, true); }, roomy(Arrival::late)), "");
  EXPECT_THAT(fault_of([] { hand_over(true, false); }, roomy(Arrival::late)), HasSubstr("race"));
  EXPECT_THAT(fault_of([] { hand_over(false, true); }, roomy(Arrival::late)),
              HasSubstr(fmt::format("32 threads at the one at {}", 1024 + kBarrier)));
  EXPECT_THAT(fault_of([] { wait(at(0), 0); }), HasSubstr("no barrier was made there"));
  const auto touched = [] {
    make_one_barrier(1);
    shared_load<float>(at(kBarrier));
  };
  EXPECT_THAT(fault_of(touched, roomy(Arrival::late)), HasSubstr("this is a barrier"));
}

TEST(HopperEmulator, OneArrivalTooMany) {
  const auto kernel = [] {
    make_one_barrier(3);
    if (thread_index() == 0) arrive_expecting(at(kBarrier), 64);  // bytes that never come
    sync_cta();
    arrive(at(kBarrier));
  };
  EXPECT_THAT(fault_of(kernel, roomy(Arrival::late)), HasSubstr("more arrivals"));
}

TEST(HopperEmulator, OneBarrierInOnePlace) {
  const auto kernel = [] {
    if (thread_index() != 0) return;
    make_barrier(at(0), 1);
    make_barrier(at(0), 1);
  };
  EXPECT_THAT(fault_of(kernel), HasSubstr("a second barrier is made there"));
}

TEST(HopperEmulator, WhatOneLaneWaitedForOthersDoNotKnow) {
  const auto kernel = [](bool all) {
    make_one_barrier(1);
    if (warp_index() == 0) {
      shared_store(at(static_cast<std::uint32_t>(lane_index()) * 4), 1.f);
      arrive(at(kBarrier));
    }
    if (warp_index() != 1) return;
    if (all || lane_index() == 31) wait(at(kBarrier), 0);
    if (lane_index() == 31) return;
    shared_load<float>(at(0));
  };
  EXPECT_EQ(fault_of([&] { kernel(true); }, roomy(Arrival::late)), "");
  EXPECT_THAT(fault_of([&] { kernel(false); }, roomy(Arrival::late)), HasSubstr("race"));
}

void load_and_read(const Matrix& m, BoxPlace place, std::uint32_t expected, bool waits) {
  make_one_barrier(1);
  if (thread_index() == 0) {
    arrive_expecting(at(kBarrier), expected);
    load_box(at(0), m.map, place, at(kBarrier));
  }
  if (waits) wait(at(kBarrier), 0);
  for (int i = thread_index(); i < 64 * 64; i += kEmulatedThreads) {
    const int r = place.row + i / 64, c = place.column + i % 64;
    const float want = r < 70 && c < 96 ? to_float(to_bf16(Matrix::value(place.plane, r, c))) : 0.F;
    const float got = element(at(0), i / 64, i % 64);
    if (waits) {
      EXPECT_EQ(got, want) << r << ", " << c;
    }
  }
}

TEST(HopperEmulator, BoxesLandSwizzledAndFilledUp) {
  const Matrix m;
  for (const Arrival arrival : kArrivals) {
    EXPECT_EQ(fault_of([&] { load_and_read(m, {0, 0, 0}, 8192, true); }, roomy(arrival)), "");
    EXPECT_EQ(fault_of([&] { load_and_read(m, {64, 64, 2}, 8192, true); }, roomy(arrival)), "");
    EXPECT_NE(fault_of([&] { load_and_read(m, {0, 0, 0}, 8192, false); }, roomy(arrival)), "");
    EXPECT_THAT(fault_of([&] { load_and_read(m, {0, 0, 0}, 4096, true); }, roomy(arrival)), HasSubstr("deadlock"));
  }
  const auto askew = [&] {
    make_one_barrier(1);
    if (thread_index() == 0) load_box(at(128), m.map, {0, 0, 0}, at(kBarrier));
  };
  EXPECT_THAT(fault_of(askew, roomy(Arrival::late)), HasSubstr("not aligned to 1024"));
  const auto forgotten = [&] {
    make_one_barrier(1);
    if (thread_index() == 0) load_box(at(0), m.map, {0, 0, 0}, at(kBarrier));
  };
  EXPECT_THAT(fault_of(forgotten, roomy(Arrival::late)), HasSubstr("ended before its bulk copies"));
}

TEST(HopperEmulator, ACopyMayNotReplaceWhatIsStillRead) {
  const Matrix m;
  const auto kernel = [&](bool given_back) {
    make_one_barrier(1);
    if (warp_index() == 1) element(at(0), lane_index(), 0);
    if (given_back) sync_cta();
    if (thread_index() == 0) {
      arrive_expecting(at(kBarrier), 8192);
      load_box(at(0), m.map, {0, 0, 0}, at(kBarrier));
    }
    wait(at(kBarrier), 0);
  };
  for (const Arrival arrival : kArrivals) {
    EXPECT_EQ(fault_of([&] { kernel(true); }, roomy(arrival)), "");
    EXPECT_NE(fault_of([&] { kernel(false); }, roomy(arrival)), "");
  }
}

TEST(HopperEmulator, StoredBoxes) {
  const auto kernel = [](Matrix& m, bool published, bool waited) {
    for (int i = thread_index(); i < 64 * 32; i += kEmulatedThreads) {
      const auto row = static_cast<std::uint32_t>(i / 32), pair = static_cast<std::uint32_t>(i % 32);
      shared_store(emulator::swizzled(at(row * 128 + pair * 4)),
                   pack_bf16(static_cast<float>(row), static_cast<float>(pair)));
    }
    if (published) publish_to_async();
    sync_cta();
    if (thread_index() == 0) {
      store_box(m.map, {64, 32, 1}, at(0));
      commit_stores();
      if (waited) wait_stores<0>();
    }
  };
  for (const Arrival arrival : kArrivals) {
    Matrix m;
    EXPECT_EQ(fault_of([&] { kernel(m, true, true); }, roomy(arrival)), "");
    EXPECT_EQ(to_float(m.at(1, 40, 66)), 8.F);
    EXPECT_EQ(to_float(m.at(1, 40, 67)), 1.F);
    EXPECT_EQ(to_float(m.at(1, 40, 96)), to_float(to_bf16(Matrix::value(1, 40, 96)))) << "outside";
    EXPECT_THAT(fault_of([&] { kernel(m, false, true); }, roomy(arrival)), HasSubstr("has not published it"));
    EXPECT_THAT(fault_of([&] { kernel(m, true, false); }, roomy(arrival)), HasSubstr("never waited for"));
  }
}

TEST(HopperEmulator, PlacesOfStoresAreNotToBeWritten) {
  Matrix m;
  const auto kernel = [&] {
    for (int i = thread_index(); i < 2048; i += kEmulatedThreads)
      shared_store(at(static_cast<std::uint32_t>(i) * 4), 0u);
    publish_to_async();
    sync_cta();
    if (thread_index() == 0) {
      store_box(m.map, {0, 0, 0}, at(0));
      commit_stores();
      shared_store(at(0), 1u);
      wait_stores<0>();
    }
  };
  EXPECT_THAT(fault_of(kernel, roomy(Arrival::late)), HasSubstr("written while it is read asynchronously"));
}

TEST(HopperEmulator, BoxesAreAligned) {
  Matrix m;
  const auto kernel = [&] {
    for (int i = thread_index(); i < 4096; i += kEmulatedThreads)
      shared_store(at(static_cast<std::uint32_t>(i) * 4), 0u);
    publish_to_async();
    sync_cta();
    if (thread_index() == 0) store_box(m.map, {0, 0, 0}, at(128));
  };
  EXPECT_THAT(fault_of(kernel, roomy(Arrival::late)), HasSubstr("not aligned to 1024"));
}

// CTA 0 loads for both; both give back to both.
TEST(HopperEmulator, ClustersShareCopies) {
  const Matrix m;
  const auto kernel = [&](bool stays) {
    make_one_barrier(1);
    if (thread_index() == 0) {
      arrive_expecting(at(kBarrier), 8192);
      make_barrier(at(kBarrier + 8), 8);
    }
    barriers_are_made();
    sync_cluster();
    if (thread_index() == 0 && cluster_rank() == 0) load_box_to_cluster(at(0), m.map, {0, 3, 1}, at(kBarrier));
    wait(at(kBarrier), 0);
    EXPECT_EQ(element(at(0), 2, 5), to_float(to_bf16(Matrix::value(1, 5, 5))));
    if (!stays && cluster_rank() == 1) return;
    arrive_in_cluster(at(kBarrier + 8));
    if (!stays) return;
    wait(at(kBarrier + 8), 0);
    sync_cluster();
  };
  for (const Arrival arrival : kArrivals) {
    EXPECT_EQ(fault_of([&] { kernel(true); }, roomy(arrival, 2)), "");
    EXPECT_THAT(fault_of([&] { kernel(false); }, roomy(arrival, 2)), HasSubstr("which has ended"));
  }
}

}  // namespace
}  // namespace xlstm
