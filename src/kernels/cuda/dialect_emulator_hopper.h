#pragma once
// The words for sm_90a on a CPU. See dialect_hopper.h and emulator/.
#include "kernels/cuda/dialect_emulator.h"

#define XL_GRID_CONSTANT

namespace xlstm::dialect {

using emulator::BoxPlace;
using emulator::Descriptor;
using emulator::TensorMap;

inline int cluster_rank() { return current_block().rank(); }
inline int cluster_size() { return current_block().cluster().size(); }
inline void sync_cluster() { current_block().cluster_barrier(); }

inline int warpgroup_index() { return current_block().thread() / 128; }
inline int warpgroup_thread() { return current_block().thread() % 128; }
template <int N>
void give_registers() {
  static_assert(N % 8 == 0 && N >= 24 && N <= 256);
  current_block().set_registers("give_registers", N);
}
template <int N>
void take_registers() {
  static_assert(N % 8 == 0 && N >= 24 && N <= 256);
  current_block().set_registers("take_registers", N);
}

inline void sync_threads(int id, int count) { current_block().named_barrier(id, count, /*wait=*/true); }
inline void arrive_threads(int id, int count) { current_block().named_barrier(id, count, /*wait=*/false); }

inline void make_barrier(std::uint32_t a, int arrivals) { current_block().make_barrier(a, arrivals); }
inline void barriers_are_made() {}
inline void arrive(std::uint32_t a) {
  emulator::Block& block = current_block();
  block.collective("arrive", nullptr, [&](const emulator::LaneArguments&) { block.arrive_at(a, block.rank()); });
}
inline void arrive_in_cluster(std::uint32_t a) {
  emulator::Block& block = current_block();
  block.collective("arrive_in_cluster", nullptr, [&](const emulator::LaneArguments&) {
    for (int rank = 0; rank < block.cluster().size(); ++rank) block.arrive_at(a, rank);
  });
}
inline void arrive_expecting(std::uint32_t a, std::uint32_t bytes) { current_block().expect_at(a, bytes); }
inline void wait(std::uint32_t a, int parity) { current_block().wait_at(a, parity); }

namespace detail {

inline emulator::Transfer box(std::uint32_t to, const TensorMap& map, BoxPlace at, std::uint32_t barrier) {
  emulator::Transfer t;
  t.to = to, t.barrier = barrier, t.map = &map, t.at = at, t.bytes = map.box_bytes();
  return t;
}

}  // namespace detail

inline void load_box(std::uint32_t to, const TensorMap& map, BoxPlace at, std::uint32_t barrier) {
  current_block().start_transfer(detail::box(to, map, at, barrier), 1u << cluster_rank());
}
inline void load_box_to_cluster(std::uint32_t to, const TensorMap& map, BoxPlace at, std::uint32_t barrier) {
  current_block().start_transfer(detail::box(to, map, at, barrier), (1u << cluster_size()) - 1);
}
inline void load_bytes(std::uint32_t to, const void* from, std::uint32_t bytes, std::uint32_t barrier) {
  emulator::check_global(from, bytes, 16);
  emulator::Transfer t;
  t.to = to, t.barrier = barrier, t.from = static_cast<const std::byte*>(from), t.bytes = bytes;
  current_block().start_transfer(t, 1u << cluster_rank());
}
inline void prefetch_box(const TensorMap&, BoxPlace) {}
inline void store_box(const TensorMap& map, BoxPlace at, std::uint32_t from) {
  current_block().store_box(map, at, from);
}
inline void commit_stores() { current_block().commit_stores(); }
template <int N>
void wait_stores() {
  current_block().wait_stores(N);
}
inline void publish_to_async() { current_block().publish_to_async(); }

namespace detail {

struct MatrixStore {
  std::uint32_t address;
  const std::uint32_t* registers;
};

inline void store_matrices(const char* name, std::uint32_t address, const std::uint32_t* registers, bool transposed) {
  MatrixStore mine{address, registers};
  emulator::Block& block = current_block();
  block.collective(name, &mine, [&](const emulator::LaneArguments& lanes) {
    for (int matrix = 0; matrix < 4; ++matrix) {
      std::uint16_t tile[8][8];
      for (int lane = 0; lane < 32; ++lane) {
        const std::uint32_t pair = static_cast<MatrixStore*>(lanes[static_cast<std::size_t>(lane)])->registers[matrix];
        const int i = lane / 4, j = lane % 4 * 2;
        (transposed ? tile[j][i] : tile[i][j]) = static_cast<std::uint16_t>(pair);
        (transposed ? tile[j + 1][i] : tile[i][j + 1]) = static_cast<std::uint16_t>(pair >> 16);
      }
      for (int row = 0; row < 8; ++row) {
        const int lane = matrix * 8 + row;
        block.shared_write_of(lane, static_cast<MatrixStore*>(lanes[static_cast<std::size_t>(lane)])->address,
                              tile[row], 16);
      }
    }
  });
}

}  // namespace detail

inline void store_matrices(std::uint32_t address, const std::uint32_t (&r)[4]) {
  detail::store_matrices("store_matrices", address, r, false);
}
inline void store_matrices_transposed(std::uint32_t address, const std::uint32_t (&r)[4]) {
  detail::store_matrices("store_matrices_transposed", address, r, true);
}

inline Descriptor rows_descriptor(std::uint32_t a) {
  return std::uint64_t{a & 0x3ffffu} >> 4 | 1ull << 16 | 64ull << 32 | 1ull << 62;
}
inline Descriptor columns_descriptor(std::uint32_t a, std::uint32_t panel) {
  return std::uint64_t{a & 0x3ffffu} >> 4 | std::uint64_t{panel >> 4} << 16 | 64ull << 32 | 1ull << 62;
}

inline void wgmma_fence() {
  emulator::Block& block = current_block();
  block.collective("wgmma_fence", nullptr, [&](const emulator::LaneArguments&) { block.products().fence(); });
}

namespace detail {

inline void wgmma(emulator::ProductRequest& request, emulator::ProductLane mine) {
  emulator::Block& block = current_block();
  block.collective("wgmma", &mine, [&](const emulator::LaneArguments& lanes) {
    for (std::size_t lane = 0; lane < 32; ++lane)
      request.lanes[lane] = *static_cast<emulator::ProductLane*>(lanes[lane]);
    block.products().issue(request);
  });
}

}  // namespace detail

template <bool kTransposeB, int kEach>
void wgmma(float (&c)[kEach], const std::uint32_t (&a)[4], Descriptor b, bool accumulate) {
  emulator::ProductRequest request{
      .columns = 2 * kEach, .b = b, .transpose_b = kTransposeB, .accumulate = accumulate, .lanes = {}};
  detail::wgmma(request, {c, a});
}
template <bool kTransposeA, bool kTransposeB, int kEach>
void wgmma_shared(float (&c)[kEach], Descriptor a, Descriptor b, bool accumulate) {
  emulator::ProductRequest request{.columns = 2 * kEach,
                                   .a = a,
                                   .b = b,
                                   .transpose_a = kTransposeA,
                                   .transpose_b = kTransposeB,
                                   .accumulate = accumulate,
                                   .lanes = {}};
  detail::wgmma(request, {c, nullptr});
}
inline void wgmma_commit() {
  emulator::Block& block = current_block();
  block.collective("wgmma_commit", nullptr, [&](const emulator::LaneArguments&) { block.products().commit(); });
}
template <int N>
void wgmma_wait() {
  emulator::Block& block = current_block();
  block.collective("wgmma_wait", nullptr, [&](const emulator::LaneArguments&) { block.products().wait(N); });
}
template <int kEach>
void settled(float (&c)[kEach]) {
  current_block().products().check_rest(c);
}
inline void settled(std::uint32_t (&)[4]) {}

}  // namespace xlstm::dialect
