#pragma once
// The words for sm_90a as PTX. See dialect_hopper.h.
#include <cuda.h>

#include "kernels/cuda/dialect_gpu.h"
#include "kernels/cuda/wgmma_ptx.h"

#define XL_GRID_CONSTANT __grid_constant__

namespace xlstm::dialect {

using TensorMap = CUtensorMap;

struct BoxPlace {
  int column, row, plane;
};

XL_DEVICE int cluster_rank() {
  std::uint32_t rank;
  asm("mov.u32 %0, %%cluster_ctarank;\n" : "=r"(rank));
  return static_cast<int>(rank);
}
XL_DEVICE int cluster_size() {
  std::uint32_t size;
  asm("mov.u32 %0, %%cluster_nctarank;\n" : "=r"(size));
  return static_cast<int>(size);
}
XL_DEVICE void sync_cluster() {
  asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;\n" ::: "memory");
}

// By a shuffle, so that the compiler sees that a warp has one.
XL_DEVICE int warpgroup_index() { return __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x >> 7), 0); }
XL_DEVICE int warpgroup_thread() { return static_cast<int>(threadIdx.x & 127u); }
template <int N>
XL_DEVICE void give_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;\n" ::"n"(N));
}
template <int N>
XL_DEVICE void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;\n" ::"n"(N));
}

XL_DEVICE void sync_threads(int id, int count) {
  asm volatile("barrier.sync.aligned %0, %1;\n" ::"r"(id), "r"(count) : "memory");
}
XL_DEVICE void arrive_threads(int id, int count) {
  asm volatile("barrier.arrive.aligned %0, %1;\n" ::"r"(id), "r"(count) : "memory");
}

// --- barriers in shared memory

XL_DEVICE void make_barrier(std::uint32_t a, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;\n" ::"r"(a), "r"(arrivals) : "memory");
}
XL_DEVICE void barriers_are_made() { asm volatile("fence.mbarrier_init.release.cluster;\n" ::: "memory"); }
XL_DEVICE void arrive(std::uint32_t a) {
  __syncwarp();
  if (lane_index() == 0) asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];\n" ::"r"(a) : "memory");
}
// It says that this warp has read, and hands no data over: so neither it nor wait() orders memory beyond the CTA, which
// would cost a fence of the whole GPU each time.
XL_DEVICE void arrive_in_cluster(std::uint32_t a) {
  __syncwarp();
  if (lane_index() < cluster_size())
    asm volatile(
        "{\n.reg .b32 there;\nmapa.shared::cluster.u32 there, %0, %1;\n"
        "mbarrier.arrive.shared::cluster.b64 _, [there];\n}\n" ::"r"(a),
        "r"(lane_index())
        : "memory");
}
XL_DEVICE void arrive_expecting(std::uint32_t a, std::uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;\n" ::"r"(a), "r"(bytes) : "memory");
}
XL_DEVICE void wait(std::uint32_t a, int parity) {
  asm volatile(
      "{\n.reg .pred over;\nagain:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 over, [%0], %1;\n"
      "@!over bra again;\n}\n" ::"r"(a),
      "r"(parity)
      : "memory");
}

// --- bulk copies

XL_DEVICE void load_box(std::uint32_t to, const TensorMap& map, BoxPlace at, std::uint32_t barrier) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, %4}], [%5];"
      "\n" ::"r"(to),
      "l"(&map), "r"(at.column), "r"(at.row), "r"(at.plane), "r"(barrier)
      : "memory");
}
XL_DEVICE void load_box_to_cluster(std::uint32_t to, const TensorMap& map, BoxPlace at, std::uint32_t barrier) {
  const auto everyone = static_cast<std::uint16_t>((1u << cluster_size()) - 1);
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster [%0], "
      "[%1, {%2, %3, %4}], [%5], %6;\n" ::"r"(to),
      "l"(&map), "r"(at.column), "r"(at.row), "r"(at.plane), "r"(barrier), "h"(everyone)
      : "memory");
}
XL_DEVICE void load_bytes(std::uint32_t to, const void* from, std::uint32_t bytes, std::uint32_t barrier) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];\n" ::"r"(to),
               "l"(from), "r"(bytes), "r"(barrier)
               : "memory");
}
XL_DEVICE void prefetch_box(const TensorMap& map, BoxPlace at) {
  asm volatile("cp.async.bulk.prefetch.tensor.3d.L2.global.tile [%0, {%1, %2, %3}];\n" ::"l"(&map), "r"(at.column),
               "r"(at.row), "r"(at.plane)
               : "memory");
}
XL_DEVICE void store_box(const TensorMap& map, BoxPlace at, std::uint32_t from) {
  asm volatile("cp.async.bulk.tensor.3d.global.shared::cta.tile.bulk_group [%0, {%1, %2, %3}], [%4];\n" ::"l"(&map),
               "r"(at.column), "r"(at.row), "r"(at.plane), "r"(from)
               : "memory");
}
XL_DEVICE void commit_stores() { asm volatile("cp.async.bulk.commit_group;\n" ::: "memory"); }
template <int N>
XL_DEVICE void wait_stores() {
  asm volatile("cp.async.bulk.wait_group.read %0;\n" ::"n"(N) : "memory");
}
XL_DEVICE void publish_to_async() { asm volatile("fence.proxy.async.shared::cta;\n" ::: "memory"); }

// --- matrices

XL_DEVICE void store_matrices(std::uint32_t a, const std::uint32_t (&r)[4]) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};\n" ::"r"(a), "r"(r[0]), "r"(r[1]),
               "r"(r[2]), "r"(r[3])
               : "memory");
}
XL_DEVICE void store_matrices_transposed(std::uint32_t a, const std::uint32_t (&r)[4]) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};\n" ::"r"(a), "r"(r[0]),
               "r"(r[1]), "r"(r[2]), "r"(r[3])
               : "memory");
}

// --- products

using Descriptor = std::uint64_t;

// start >> 4; leading offset >> 4 from bit 16 (of no account for rows); stride >> 4 from bit 32: groups of 8 rows are
// 1024 bytes; the swizzle of 128 bytes.
XL_DEVICE Descriptor rows_descriptor(std::uint32_t a) {
  return static_cast<std::uint64_t>((a & 0x3ffffu) >> 4) | 1ull << 16 | 64ull << 32 | 1ull << 62;
}
XL_DEVICE Descriptor columns_descriptor(std::uint32_t a, std::uint32_t panel) {
  return static_cast<std::uint64_t>((a & 0x3ffffu) >> 4) | static_cast<std::uint64_t>(panel >> 4) << 16 | 64ull << 32 |
         1ull << 62;
}

XL_DEVICE void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;\n" ::: "memory"); }
XL_DEVICE void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;\n" ::: "memory"); }
template <int N>
XL_DEVICE void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;\n" ::"n"(N) : "memory");
}
// Keeps the compiler from moving what uses these registers over a wait or a fence.
template <int kEach>
XL_DEVICE void settled(float (&c)[kEach]) {
  XL_UNROLL
  for (int i = 0; i < kEach; ++i) asm volatile("" : "+f"(c[i])::"memory");
}
XL_DEVICE void settled(std::uint32_t (&a)[4]) {
  XL_UNROLL
  for (int i = 0; i < 4; ++i) asm volatile("" : "+r"(a[i])::"memory");
}

}  // namespace xlstm::dialect
