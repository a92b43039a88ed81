#include "train/hardware.h"

#include <dnnl.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>

#include "core/memory.h"
#include "core/parallel.h"
#include "core/random.h"
#include "dist/communicator.h"
#include "kernels/ops.h"

namespace xlstm {

namespace {

// Random values: matrix units run faster on zeros than on real data.
std::vector<float> random_floats(i64 n) {
  const RandomStream random(1, RandomUse::bench);
  std::vector<float> out(static_cast<std::size_t>(n));
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = static_cast<float>(random.uniform(i) - 0.5);
  return out;
}

// The best of several repetitions that together take about `seconds`.
template <class F>
double best_seconds(const Machine& machine, double seconds, F&& work) {
  const auto wait = [&] {
    if (machine.gpu()) machine.gpu()->synchronize();
  };
  work();
  wait();
  double best = 1e300;
  const Timer total;
  do {
    const Timer one;
    work();
    wait();
    best = std::min(best, one.seconds());
  } while (total.seconds() < seconds);
  return best;
}

}  // namespace

// A GPU is measured by the type and size that its tensor cores are made for.
double measure_gemm_flops(const Machine& machine, DType type, double seconds) {
  const bool gpu = machine.gpu() != nullptr;
  i64 n = gpu && machine.gpu()->info().multiprocessors > 1 ? 8192 : gpu ? 64 : 1024;
  while (!gpu && (n / 512) * (n / 512) < 2 * max_threads() && n < 4096) n *= 2;  // of tiles enough for every thread
  if (gpu) type = DType::bf16;
  Buffer memory(3 * n * n * size_of(type) + (i64{8} << 20), machine.gpu());
  Arena arena("gemm", memory.data(), memory.bytes(), machine.device());
  Context ctx = machine.context(arena);
  ctx.check_ops = false;
  // One block of random numbers, as often as it takes.
  const i64 block = std::min(n * n, i64{1} << 20);
  const Tensor random = arena.alloc("random", DType::f32, 1, block);
  upload(ctx, random, random_floats(block).data());
  const auto tensor = [&] {
    const Tensor t = arena.alloc("operand", type, n, n);
    for (i64 at = 0; at < t.size(); at += block) ops::copy(ctx, t.flat().slice_cols(at, at + block), random);
    return t;
  };
  const Tensor a = tensor(), b = tensor(), c = arena.alloc("c", type, n, n);
  const double flops = 2.0 * static_cast<double>(n) * static_cast<double>(n) * static_cast<double>(n);
  return flops / best_seconds(machine, seconds, [&] { ops::matmul(ctx, c, a, b, {.transpose_b = true}); });
}

double measure_copy_bytes(const Machine& machine, double seconds) {
  const i64 n = machine.gpu() ? i64{1} << 30 : i64{1} << 26;
  Buffer from(n, machine.gpu()), to(n, machine.gpu());
  Arena source("source", from.data(), n, machine.device()), target("target", to.data(), n, machine.device());
  const Tensor x = source.alloc("x", DType::f32, 1024, n / 4096), y = target.alloc("y", DType::f32, 1024, n / 4096);
  Context ctx = machine.context(source);
  ops::fill(ctx, x, 1);
  return 2.0 * static_cast<double>(n) / best_seconds(machine, seconds, [&] { ops::copy(ctx, y, x); });
}

double measure_read_bytes(const Machine& machine, double seconds) {
  if (machine.gpu()) return measure_copy_bytes(machine, seconds);
  // As weights are read: four rows at a time, each of 256 KiB.
  constexpr i64 kWords = i64{1} << 26, kStreams = 4, kRow = i64{1} << 15, kBlock = kStreams * kRow;
  const Buffer memory(kWords * 8);
  auto* const words = reinterpret_cast<std::uint64_t*>(memory.data());
  std::vector<std::uint64_t> sums(kWords / kBlock);
  parallel_blocks(kWords, kBlock, [&](i64 begin, i64 end) { std::fill(words + begin, words + end, 1); });
  const double best = best_seconds(machine, seconds, [&] {
    parallel_blocks(kWords, kBlock, [&](i64 begin, i64) {
      std::uint64_t sum[kStreams] = {};
      for (i64 i = begin; i < begin + kRow; ++i)
        for (i64 s = 0; s < kStreams; ++s) sum[s] += words[i + s * kRow];
      sums[static_cast<std::size_t>(begin / kBlock)] = sum[0] + sum[1] + sum[2] + sum[3];
    });
  });
  XL_CHECK(sums.back() == kBlock, "nothing was read");
  return 8.0 * static_cast<double>(kWords) / best;
}

std::string program_version() { return "xlstm " XLSTM_VERSION; }

namespace {

Json describe(const GpuInfo& info) {
  return {{"name", info.name},
          {"architecture", fmt::format("sm_{}", info.architecture)},
          {"multiprocessors", info.multiprocessors},
          {"memory_bytes", info.memory_bytes},
          {"driver", info.driver},
          {"runtime", info.runtime}};
}

}  // namespace

Json describe_environment(const Machine& machine) {
  char host[256] = {};
  gethostname(host, sizeof host - 1);
  utsname system{};
  uname(&system);
  const dnnl_version_t* dnnl = dnnl_version();
  return {{"program", program_version()},
          {"compiler", "g++ " __VERSION__},
          {"host", host},
          {"system", fmt::format("{} {} {}", system.sysname, system.release, system.machine)},
          {"processor", cpu_model_name()},
          {"cores", usable_cores()},
          {"threads", max_threads()},
          {"instruction_set", name_of(machine.isa())},
          {"memory_available_bytes", available_memory_bytes()},
          {"onednn", fmt::format("{}.{}.{}", dnnl->major, dnnl->minor, dnnl->patch)},
          {"cuda", machine.gpu() ? describe(machine.gpu()->info()) : Json(nullptr)},
          {"mpi", mpi_version().empty() ? Json(nullptr) : Json(mpi_version())},
          {"nccl", nccl_version().empty() ? Json(nullptr) : Json(nccl_version())}};
}

}  // namespace xlstm
