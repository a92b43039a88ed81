// The words of sm_90a. See words.h.
#include "kernels/cuda/launch.h"
#include "kernels/cuda/tensor_map.h"
#include "tests/device/words.h"

namespace xlstm::test {

using namespace dialect;

namespace {

constexpr std::uint32_t kPanel = 8192;  // 64 rows of 128 bytes

// The swizzle of 128 bytes, written down apart from the cell's.
XL_DEVICE std::uint32_t swizzled_byte(int row, int column) {
  const auto byte = static_cast<std::uint32_t>(row * 128 + column * 2);
  return byte ^ static_cast<std::uint32_t>(row % 8 * 16);
}

// x (rows, columns) in panels of 64 columns.
XL_DEVICE void fill_panels(std::uint32_t to, const bf16* x, int rows, int columns) {
  for (int i = thread_index(); i < rows * columns / 2; i += 128) {
    const int row = i / (columns / 2), column = i % (columns / 2) * 2;
    shared_store(to + static_cast<std::uint32_t>(column / 64) * kPanel + swizzled_byte(row, column % 64),
                 global_load(reinterpret_cast<const std::uint32_t*>(x) + i));
  }
}

template <int kEach>
XL_DEVICE void store_product(const float (&y)[kEach], float* c) {
  for (int j = 0; j < kEach; ++j) {
    const int row = warp_index() * 16 + lane_index() / 4 + (j & 2) * 4,
              column = j / 4 * 8 + lane_index() % 4 * 2 + j % 2;
    global_store(c + row * (kEach * 2) + column, y[j]);
  }
}

// Descriptor of the 16 of k from 16 step on.
template <bool kTransposed>
XL_DEVICE Descriptor operand(std::uint32_t from, std::uint32_t step) {
  return kTransposed ? columns_descriptor(from + step * 2048, kPanel) : rows_descriptor(from + step * 32);
}

constexpr int kProductBytes = 5 * static_cast<int>(kPanel);  // a, and b of up to 256 columns

template <int kColumns, bool kTransposedA, bool kTransposedB>
XL_KERNEL(128, 1)
shared_product(const ProductWords p) {
  const std::uint32_t a = shared_begin(), b = a + kPanel;
  fill_panels(a, p.a, kTransposedA ? 32 : 64, kTransposedA ? 64 : 32);
  // with 72 columns the last 8 rows go on behind the panel
  fill_panels(b, p.b, kTransposedB ? 32 : kColumns, kTransposedB ? kColumns : 32);
  publish_to_async();
  sync_cta();
  float y[kColumns / 2];
  XL_UNROLL
  for (float& x : y) x = 100;  // not accumulated at first
  wgmma_fence();
  XL_UNROLL
  for (std::uint32_t step = 0; step < 2; ++step)
    wgmma_shared<kTransposedA, kTransposedB>(y, operand<kTransposedA>(a, step), operand<kTransposedB>(b, step),
                                             step != 0);
  wgmma_commit();
  wgmma_wait<0>();
  settled(y);
  store_product(y, p.c);
}

// b by rows: `kColumns` rows in panels of 64 each; transposed: panels of 64 columns.
template <int kColumns, bool kTransposedB>
XL_KERNEL(128, 1)
registers_product(const ProductWords p) {
  const std::uint32_t b = shared_begin();
  fill_panels(b, p.b, kTransposedB ? 32 : kColumns, kTransposedB ? kColumns : 32);
  publish_to_async();
  sync_cta();
  std::uint32_t a[2][4];
  XL_UNROLL
  for (int step = 0; step < 2; ++step) {
    XL_UNROLL
    for (int j = 0; j < 4; ++j) {
      const int row = warp_index() * 16 + lane_index() / 4 + j % 2 * 8,
                k = step * 16 + lane_index() % 4 * 2 + j / 2 * 8;
      a[step][j] = global_load(reinterpret_cast<const std::uint32_t*>(p.a) + row * 16 + k / 2);
    }
  }
  float y[kColumns / 2];
  XL_UNROLL
  for (float& x : y) x = 0;
  settled(a[0]);
  settled(a[1]);
  wgmma_fence();
  XL_UNROLL
  for (std::uint32_t step = 0; step < 2; ++step) wgmma<kTransposedB>(y, a[step], operand<kTransposedB>(b, step), true);
  wgmma_commit();
  wgmma_wait<0>();
  settled(y);
  store_product(y, p.c);
}

XL_KERNEL(32, 1) store_words(std::uint32_t* stored, std::uint32_t* transposed, const std::uint32_t* r) {
  const int lane = lane_index();
  const std::uint32_t place = shared_begin() + static_cast<std::uint32_t>(lane) * 16;
  std::uint32_t mine[4];
  for (int j = 0; j < 4; ++j) mine[j] = global_load(r + j * 32 + lane);
  store_matrices(place, mine);
  store_matrices_transposed(place + 512, mine);
  sync_cta();
  for (int i = lane; i < 128; i += 32) {
    global_store(stored + i, shared_load<std::uint32_t>(shared_begin() + 4 * static_cast<std::uint32_t>(i)));
    global_store(transposed + i, shared_load<std::uint32_t>(shared_begin() + 512 + 4 * static_cast<std::uint32_t>(i)));
  }
}

struct Boxes {
  TensorMap map;
  BoxPlace first;
  std::uint32_t* out;
};

XL_DEVICE std::uint32_t box_slot(int number) {
  return shared_begin() + static_cast<std::uint32_t>(number) * (4 * kBoxWords);
}

XL_KERNEL(128, 1) box_loads(const XL_GRID_CONSTANT Boxes p) {
  const int rank = cluster_rank(), size = cluster_size();
  const std::uint32_t barrier = box_slot(size);
  if (thread_index() == 0) {
    make_barrier(barrier, 1);
    barriers_are_made();
    arrive_expecting(barrier, static_cast<std::uint32_t>(size) * (4 * kBoxWords));
  }
  sync_cluster();
  if (thread_index() == 0) {
    const BoxPlace mine{p.first.column, p.first.row + rank * kBoxRows, p.first.plane};
    prefetch_box(p.map, mine);
    if (size == 1)
      load_box(box_slot(rank), p.map, mine, barrier);
    else
      load_box_to_cluster(box_slot(rank), p.map, mine, barrier);
  }
  wait(barrier, 0);
  for (int i = thread_index(); i < size * kBoxWords; i += 128)
    global_store(p.out + rank * size * kBoxWords + i,
                 shared_load<std::uint32_t>(shared_begin() + 4 * static_cast<std::uint32_t>(i)));
  sync_cluster();
}

XL_KERNEL(128, 1) box_store(const XL_GRID_CONSTANT Boxes p, const std::uint32_t* from) {
  for (int i = thread_index(); i < kBoxWords; i += 128)
    shared_store(shared_begin() + swizzled_byte(i / 32, i % 32 * 2), global_load(from + i));
  publish_to_async();
  sync_cta();
  if (thread_index() == 0) {
    store_box(p.map, p.first, shared_begin());
    commit_stores();
    wait_stores<0>();
  }
}

XL_KERNEL(128, 1) byte_loads(std::uint32_t* out, const std::uint32_t* from, int bytes) {
  const std::uint32_t barrier = shared_begin() + 4096;
  if (thread_index() == 0) {
    make_barrier(barrier, 1);
    barriers_are_made();
  }
  sync_cta();
  if (thread_index() == 0) {
    arrive_expecting(barrier, static_cast<std::uint32_t>(bytes));
    load_bytes(shared_begin(), from, static_cast<std::uint32_t>(bytes), barrier);
  }
  wait(barrier, 0);
  for (int i = thread_index(); i < bytes / 4; i += 128)
    global_store(out + i, shared_load<std::uint32_t>(shared_begin() + 4 * static_cast<std::uint32_t>(i)));
}

// Warp 0 writes, warp 1 reads and gives back to the whole cluster: `full` is of one arrival, `empty` of one per CTA.
XL_KERNEL(64, 1) barrier_words(std::int32_t* out, int rounds) {
  const std::uint32_t number = shared_begin(), full = number + 16, empty = number + 24;
  const int size = cluster_size(), rank = cluster_rank();
  if (thread_index() == 0) {
    make_barrier(full, 1);
    make_barrier(empty, size);
    barriers_are_made();
  }
  sync_cluster();
  for (int round = 0; round < rounds; ++round) {
    if (warp_index() == 0) {
      if (round > 0) wait(empty, (round - 1) & 1);
      if (lane_index() == 0) shared_store(number, round * 16 + rank);
      arrive(full);
    } else {
      wait(full, round & 1);
      if (lane_index() == 0) global_store(out + rank * rounds + round, shared_load<std::int32_t>(number));
      arrive_in_cluster(empty);
    }
  }
  sync_cluster();
}

XL_KERNEL(384, 1) warpgroup_words(std::int32_t* out) {
  const int thread = warpgroup_thread();
  const std::uint32_t place = shared_begin() + 4 * static_cast<std::uint32_t>(thread);
  if (warpgroup_index() == 0) {
    give_registers<72>();
    shared_store(place, thread + 1);
    arrive_threads(1, 256);
    global_store(out + thread * 3, thread + 1);
  } else if (warpgroup_index() == 1) {
    take_registers<216>();
    sync_threads(1, 256);
    const int got = shared_load<std::int32_t>(place ^ 128u) + 1000;  // another warp's
    global_store(out + thread * 3 + 1, got);
    shared_store(place + 512, got);
    arrive_threads(2, 256);
  } else {
    take_registers<216>();
    sync_threads(2, 256);
    global_store(out + thread * 3 + 2, shared_load<std::int32_t>((place ^ 128u) + 512) + 1000);
  }
}

TensorMap map_of(const BoxWords& p) {
  return gpu::make_tensor_map({.data = p.x,
                               .columns = p.columns,
                               .rows = p.rows,
                               .planes = p.planes,
                               .row_stride = p.stride,
                               .plane_stride = p.rows * p.stride,
                               .box_rows = kBoxRows});
}

}  // namespace

void run_product_words(Context& ctx, const ProductWords& p) {
  const dialect::LaunchShape shape{.threads = 128, .shared_bytes = kProductBytes};
  const auto in_registers = [&]<int kColumns>() {
    if (p.columns != kColumns) return;
    if (p.transposed_b)
      launch(ctx, shape, &registers_product<kColumns, true>, p);
    else if constexpr (kColumns == 64)
      launch(ctx, shape, &registers_product<kColumns, false>, p);
  };
  if (p.registers) {
    in_registers.template operator()<64>();
    in_registers.template operator()<128>();
    in_registers.template operator()<192>();
    in_registers.template operator()<256>();
    return;
  }
  if (p.columns == 72) launch(ctx, shape, &shared_product<72, false, false>, p);
  if (p.columns == 32) launch(ctx, shape, &shared_product<32, true, false>, p);
  if (p.columns != 64) return;
  if (p.transposed_a && p.transposed_b) launch(ctx, shape, &shared_product<64, true, true>, p);
  if (p.transposed_a && !p.transposed_b) launch(ctx, shape, &shared_product<64, true, false>, p);
  if (!p.transposed_a && p.transposed_b) launch(ctx, shape, &shared_product<64, false, true>, p);
  if (!p.transposed_a && !p.transposed_b) launch(ctx, shape, &shared_product<64, false, false>, p);
}

void run_store_words(Context& ctx, std::uint32_t* stored, std::uint32_t* transposed, const std::uint32_t* r) {
  launch(ctx, {.threads = 32, .shared_bytes = 1024}, &store_words, stored, transposed, r);
}

void run_box_loads(Context& ctx, const BoxWords& p, std::uint32_t* out) {
  launch(ctx, {.x = p.cluster, .threads = 128, .shared_bytes = p.cluster * 4 * kBoxWords + 8, .cluster = p.cluster},
         &box_loads, Boxes{map_of(p), {p.column, p.row, p.plane}, out});
}

void run_box_store(Context& ctx, const BoxWords& p, const std::uint32_t* from) {
  launch(ctx, {.threads = 128, .shared_bytes = 4 * kBoxWords}, &box_store,
         Boxes{map_of(p), {p.column, p.row, p.plane}, nullptr}, from);
}

void run_byte_loads(Context& ctx, std::uint32_t* out, const std::uint32_t* from, int bytes) {
  launch(ctx, {.threads = 128, .shared_bytes = 4096 + 8}, &byte_loads, out, from, bytes);
}

void run_barrier_words(Context& ctx, std::int32_t* out, int cluster, int rounds) {
  launch(ctx, {.x = cluster, .threads = 64, .shared_bytes = 32, .cluster = cluster}, &barrier_words, out, rounds);
}

void run_warpgroup_words(Context& ctx, std::int32_t* out) {
  launch(ctx, {.threads = 384, .shared_bytes = 1024}, &warpgroup_words, out);
}

}  // namespace xlstm::test
