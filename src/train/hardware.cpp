#include "train/hardware.h"

#include <dnnl.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>

#include "core/memory.h"
#include "core/parallel.h"
#include "core/random.h"
#include "kernels/ops.h"

namespace xlstm {

namespace {

// Random values: matrix units run faster on zeros than on real data.
void fill_random(Tensor t, std::uint64_t which) {
  const RandomStream random(1, RandomUse::bench, which);
  float* p = t.row<float>();
  for (i64 i = 0; i < t.size(); ++i) p[i] = static_cast<float>(random.uniform(static_cast<std::uint64_t>(i)) - 0.5);
}

// The best of several repetitions that together take about `seconds`.
template <class F>
double best_seconds(double seconds, F&& work) {
  work();
  double best = 1e300;
  const Timer total;
  do {
    const Timer one;
    work();
    best = std::min(best, one.seconds());
  } while (total.seconds() < seconds);
  return best;
}

}  // namespace

double measure_gemm_flops(CpuIsa isa, double seconds) {
  constexpr i64 m = 1024, n = 1024, k = 1024;
  Buffer memory(3 * m * n * 4);
  Arena arena("gemm", memory.data(), memory.bytes()), scratch("none", memory.data(), 0);
  const Tensor a = arena.alloc("a", DType::f32, m, k), b = arena.alloc("b", DType::f32, n, k),
               c = arena.alloc("c", DType::f32, m, n);
  fill_random(a, 0);
  fill_random(b, 1);
  Context ctx{.isa = isa, .scratch = &scratch};
  return 2.0 * m * n * k / best_seconds(seconds, [&] { ops::matmul(ctx, c, a, b, {.transpose_b = true}); });
}

double measure_copy_bytes(CpuIsa isa, double seconds) {
  constexpr i64 n = i64{1} << 26;
  Buffer from(n), to(n);
  Arena scratch("none", from.data(), 0);
  const Tensor x = make_tensor(from.data(), DType::f32, 1024, n / 4096),
               y = make_tensor(to.data(), DType::f32, 1024, n / 4096);
  Context ctx{.isa = isa, .scratch = &scratch};
  ops::fill(ctx, x, 1);
  return 2.0 * n / best_seconds(seconds, [&] { ops::copy(ctx, y, x); });
}

std::string program_version() { return "xlstm " XLSTM_VERSION; }

Json describe_environment() {
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
          {"instruction_set", name_of(best_cpu_isa())},
          {"memory_available_bytes", available_memory_bytes()},
          {"onednn", fmt::format("{}.{}.{}", dnnl->major, dnnl->minor, dnnl->patch)},
          {"cuda", nullptr},
          {"mpi", nullptr}};
}

}  // namespace xlstm
