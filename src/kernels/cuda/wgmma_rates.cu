// The rates of an H100's parts. See wgmma_rates.h.
#include "kernels/cuda/launch.h"
#include "kernels/cuda/tensor_map.h"
#include "kernels/cuda/wgmma_rates.h"

namespace xlstm::gpu {

using namespace dialect;

namespace {

constexpr std::uint32_t kPanel = 8192;  // 64 rows of 64 bf16
constexpr int kProductBytes = 5 * static_cast<int>(kPanel);

// Small whole numbers that look like chance: zeros would flatter the machine.
XL_DEVICE float small_number(std::uint32_t i) { return static_cast<float>((i * 2654435761u >> 13) % 5) - 2; }
XL_DEVICE std::uint32_t small_pair(std::uint32_t i) { return pack_bf16(small_number(2 * i), small_number(2 * i + 1)); }

template <int kColumns, bool kRegisters>
XL_KERNEL(256, 1)
product_rate(float* sink, int warpgroups, int batches) {
  const std::uint32_t a = shared_begin(), b = a + kPanel;
  const auto thread = static_cast<std::uint32_t>(thread_index());
  for (std::uint32_t i = thread; i < kProductBytes / 4; i += static_cast<std::uint32_t>(warpgroups) * 128)
    shared_store(a + 4 * i, small_pair(i));
  publish_to_async();
  sync_cta();
  std::uint32_t left[4];
  XL_UNROLL
  for (std::uint32_t j = 0; j < 4; ++j) left[j] = small_pair(thread % 128 * 4 + j);
  float c[kColumns / 2];
  XL_UNROLL
  for (float& x : c) x = 0;
  for (int batch = 0; batch < batches; ++batch) {
    settled(left);
    settled(c);
    wgmma_fence();
    XL_UNROLL
    for (std::uint32_t i = 0; i < kProductsPerBatch; ++i) {
      const std::uint32_t step = i % 4;
      if constexpr (!kRegisters)
        wgmma_shared<false, false>(c, rows_descriptor(a + step * 32), rows_descriptor(b + step * 32), true);
      else if constexpr (kColumns == 64)
        wgmma<false>(c, left, rows_descriptor(b + step * 32), true);
      else
        wgmma<true>(c, left, columns_descriptor(b + step * 2048, kPanel), true);
    }
    wgmma_commit();
    wgmma_wait<0>();
  }
  settled(c);
  if (warpgroup_thread() == 0)
    global_store(sink + static_cast<int>(block_index().x) * warpgroups + warpgroup_index(), c[1]);
}

constexpr int kSlots = 16, kInFlight = 8;
constexpr int kCopyBytes = kSlots * (static_cast<int>(kPanel) + 2 * 8);

struct CopyRate {
  TensorMap from;
  float* sink;
  int rows, columns;  // in boxes
  int boxes;
};

// Box number n of a cluster is loaded by its CTA n % size, into slot n % kSlots of all.
XL_KERNEL(32, 1) copy_rate(const XL_GRID_CONSTANT CopyRate p) {
  const int size = cluster_size(), rank = cluster_rank(), cta = static_cast<int>(block_index().x);
  const auto slot = [](int n) { return shared_begin() + static_cast<std::uint32_t>(n % kSlots) * kPanel; };
  const auto full = [](int n) { return shared_begin() + kSlots * kPanel + static_cast<std::uint32_t>(n % kSlots) * 8; };
  const auto empty = [&](int n) { return full(n) + kSlots * 8; };
  if (thread_index() == 0) {
    for (int n = 0; n < kSlots; ++n) {
      make_barrier(full(n), 1);
      make_barrier(empty(n), size);
    }
    barriers_are_made();
  }
  sync_cluster();
  float sum = 0;
  for (int n = 0; n < p.boxes + kInFlight; ++n) {
    if (n < p.boxes) {
      if (n >= kSlots) wait(empty(n), (n / kSlots - 1) & 1);
      if (thread_index() == 0) {
        arrive_expecting(full(n), kPanel);
        const int box = cta / size * 37 + n;  // clusters begin in different places
        const BoxPlace at{box % p.columns * 64, box / p.columns % p.rows * 64, 0};
        if (size == 1)
          load_box(slot(n), p.from, at, full(n));
        else if (n % size == rank)
          load_box_to_cluster(slot(n), p.from, at, full(n));
      }
    }
    const int landed = n - kInFlight;
    if (landed < 0) continue;
    wait(full(landed), landed / kSlots & 1);
    sum += low_half(shared_load<std::uint32_t>(slot(landed) + 4 * static_cast<std::uint32_t>(lane_index())));
    arrive_in_cluster(empty(landed));
  }
  global_store(p.sink + cta * 32 + lane_index(), sum);
  sync_cluster();
}

}  // namespace

double run_product_rate(Context& ctx, const ProductRate& which, i64 batches, Tensor sink) {
  const i64 ctas = sink.rows / which.warpgroups;
  XL_CHECK(sink.rows == ctas * which.warpgroups && sink.cols == 1, "a sink of {} rows", sink.rows);
  const LaunchShape shape{.x = ctas, .threads = 128 * which.warpgroups, .shared_bytes = kProductBytes};
  const auto start = [&](auto* kernel) {
    launch(ctx, shape, kernel, reinterpret_cast<float*>(sink.data), which.warpgroups, static_cast<int>(batches));
  };
  if (!which.registers)
    start(&product_rate<64, false>);
  else if (which.columns == 64)
    start(&product_rate<64, true>);
  else
    start(&product_rate<256, true>);
  return 2.0 * 64 * 16 * which.columns * kProductsPerBatch * static_cast<double>(batches * sink.rows);
}

double run_copy_rate(Context& ctx, int cluster, i64 boxes, Tensor from, Tensor sink) {
  XL_CHECK(from.rows % 64 == 0 && from.cols % 64 == 0, "no boxes of 64 x 64 in {} x {}", from.rows, from.cols);
  XL_CHECK(sink.rows % cluster == 0 && sink.cols == 32, "{} CTAs in clusters of {}", sink.rows, cluster);
  const CopyRate p{.from = make_tensor_map({.data = reinterpret_cast<bf16*>(from.data),
                                            .columns = from.cols,
                                            .rows = from.rows,
                                            .planes = 1,
                                            .row_stride = from.row_stride,
                                            .plane_stride = from.rows * from.row_stride}),
                   .sink = reinterpret_cast<float*>(sink.data),
                   .rows = static_cast<int>(from.rows / 64),
                   .columns = static_cast<int>(from.cols / 64),
                   .boxes = static_cast<int>(boxes)};
  launch(ctx, {.x = sink.rows, .threads = 32, .shared_bytes = kCopyBytes, .cluster = cluster}, &copy_rate, p);
  return static_cast<double>(boxes) * kPanel * static_cast<double>(sink.rows);
}

int clusters_at_once(Context& ctx, int cluster) {
  const LaunchShape shape{
      .x = cluster, .threads = 256, .shared_bytes = static_cast<int>(ctx.gpu->info().shared_bytes), .cluster = cluster};
  return clusters_at_once(shape, &product_rate<256, true>);
}

}  // namespace xlstm::gpu
