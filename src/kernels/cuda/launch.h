#pragma once
// How an op starts a kernel: on the context's stream, or in the emulator. Kernels take plain values only.
#include <limits>
#include <type_traits>

#include "core/context.h"
#if defined(__CUDACC__)
#include <map>

#include "kernels/cuda/check.h"
#else
#include "kernels/cuda/emulator/device_memory.h"
#include "kernels/cuda/emulator/gpu.h"
#endif

namespace xlstm::dialect {

struct LaunchShape {
  i64 x = 1, y = 1, z = 1;  // CTAs; y and z at most 65,535
  int threads = 256;
  int shared_bytes = 0;  // dynamic
  int cluster = 1;       // CTAs, along x
};

#if defined(__CUDACC__)
// What is beyond 48 KiB a kernel has to ask for, once.
inline void allow_shared_memory(const void* kernel, int bytes) {
  constexpr int kWithoutAsking = 48 << 10;
  static std::map<const void*, int> allowed;
  if (bytes <= kWithoutAsking || allowed[kernel] >= bytes) return;
  check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes), "shared memory");
  allowed[kernel] = bytes;
}

// `cluster` is part of what is returned, by its address.
inline cudaLaunchConfig_t launch_config(const LaunchShape& shape, cudaLaunchAttribute& cluster) {
  cluster.id = cudaLaunchAttributeClusterDimension;
  cluster.val.clusterDim = {static_cast<unsigned>(shape.cluster), 1, 1};
  cudaLaunchConfig_t config{};
  config.gridDim = {static_cast<unsigned>(shape.x), static_cast<unsigned>(shape.y), static_cast<unsigned>(shape.z)};
  config.blockDim = {static_cast<unsigned>(shape.threads), 1, 1};
  config.dynamicSmemBytes = static_cast<std::size_t>(shape.shared_bytes);
  config.attrs = &cluster;
  config.numAttrs = shape.cluster > 1 ? 1 : 0;
  return config;
}
#endif

// An empty grid is no launch.
template <class... P>
void launch(Context& ctx, const LaunchShape& shape, void (*kernel)(P...), std::type_identity_t<P>... arguments) {
  if (shape.x * shape.y * shape.z == 0) return;
  XL_CHECK(shape.x < (i64{1} << 31) && shape.y <= 65535 && shape.z <= 65535, "a grid of {} x {} x {}", shape.x, shape.y,
           shape.z);
  XL_CHECK(shape.shared_bytes <= ctx.gpu->info().shared_bytes, "{} bytes of shared memory, the device has {}",
           shape.shared_bytes, ctx.gpu->info().shared_bytes);
#if defined(__CUDACC__)
  allow_shared_memory(reinterpret_cast<const void*>(kernel), shape.shared_bytes);
  cudaLaunchAttribute cluster{};
  cudaLaunchConfig_t config = launch_config(shape, cluster);
  config.stream = static_cast<cudaStream_t>(ctx.gpu->stream());
  check_cuda(cudaLaunchKernelEx(&config, kernel, arguments...), "launch");
#else
  emulator::LaunchConfig config = emulator::next_launch();
  config.grid = {static_cast<unsigned>(shape.x), static_cast<unsigned>(shape.y), static_cast<unsigned>(shape.z)};
  config.cluster = shape.cluster;
  config.threads = shape.threads;
  config.shared_bytes = static_cast<std::size_t>(shape.shared_bytes);
  emulator::note_launch(emulator::bytes_of(kernel) + emulator::bytes_of(shape) +
                        (std::string() + ... + emulator::bytes_of(arguments)));
  const emulator::DeviceAccess open;
  emulator::launch(config, [&] { kernel(arguments...); });
#endif
}

// How many clusters of such CTAs the device runs at a time; 0 where nobody knows.
template <class... P>
int clusters_at_once([[maybe_unused]] const LaunchShape& shape, [[maybe_unused]] void (*kernel)(P...)) {
#if defined(__CUDACC__)
  const auto* const id = reinterpret_cast<const void*>(kernel);
  static std::map<std::pair<const void*, int>, int> known;
  const auto [place, is_new] = known.try_emplace({id, shape.cluster}, 0);
  if (is_new) {
    allow_shared_memory(id, shape.shared_bytes);
    cudaLaunchAttribute cluster{};
    cudaLaunchConfig_t config = launch_config(shape, cluster);
    config.numAttrs = 1;
    check_cuda(cudaOccupancyMaxActiveClusters(&place->second, kernel, &config), "occupancy");
  }
  return place->second;
#else
  return 0;
#endif
}

// CTAs along x that share what they load: 4 if x allows it, or fewer if that many run in fewer waves. A device whose
// groups of multiprocessors are not whole has room for fewer clusters than for as many single CTAs.
template <class... P>
int best_cluster(LaunchShape shape, void (*kernel)(P...)) {
  int best = 1;
  i64 fewest = std::numeric_limits<i64>::max();
  for (const int cluster : {4, 2, 1}) {
    if (shape.x % cluster != 0) continue;
    shape.cluster = cluster;
    const i64 clusters = shape.x * shape.y * shape.z / cluster, at_once = clusters_at_once(shape, kernel);
    const i64 waves = at_once == 0 ? 1 : (clusters + at_once - 1) / at_once;
    if (waves < fewest) best = cluster, fewest = waves;
  }
  return best;
}

}  // namespace xlstm::dialect
