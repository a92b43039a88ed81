// xlstm bench device: the parts of an H100 or H200 that the cell's scan is made of
#include "kernels/cuda/wgmma_rates.h"
#include "tools/bench_rig.h"
#include "train/hardware.h"

namespace xlstm {

namespace {

constexpr i64 kBatches = 4096, kBoxes = 1 << 16;

void product_rates(BenchRig& b, BenchResult& r) {
  const int ctas = b.machine().gpu()->info().multiprocessors;
  r.text += fmt::format("{:<44}{:>12}{:>12}\n", "products", "warpgroups", "TF/s");
  for (const gpu::ProductRate which :
       {gpu::ProductRate{64, true, 1}, {64, true, 2}, {64, false, 1}, {64, false, 2}, {256, true, 1}, {256, true, 2}}) {
    b.reset();
    const Tensor sink = b.single(ctas * which.warpgroups, 1);
    double flops = 0;
    const double seconds =
        b.median_seconds([&] { flops = gpu::run_product_rate(b.ctx, which, kBatches * 64 / which.columns, sink); });
    const char* place = which.registers ? "registers" : "shared memory";
    r.json["products"].push_back({{"columns", which.columns},
                                  {"left_operand", place},
                                  {"warpgroups", which.warpgroups},
                                  {"flops_per_second", flops / seconds}});
    r.text += fmt::format("{:<44}{:>12}{:>12.1f}\n", fmt::format("m64n{}k16, left operand in {}", which.columns, place),
                          which.warpgroups, flops / seconds / 1e12);
  }
}

void copy_rates(BenchRig& b, BenchResult& r) {
  const int ctas = b.machine().gpu()->info().multiprocessors;
  r.text += fmt::format("\n{:<44}{:>12}{:>12}\n", "L2 to shared memory, 16 MiB in turns", "TB/s", "clusters");
  for (const int cluster : {1, 2, 4}) {
    b.reset();
    const Tensor from = b.tensor(4096, 2048), sink = b.single(ctas / cluster * cluster, 32);
    double bytes = 0;
    const double seconds = b.median_seconds([&] { bytes = gpu::run_copy_rate(b.ctx, cluster, kBoxes, from, sink); });
    const int clusters = gpu::clusters_at_once(b.ctx, cluster);
    r.json["copies"].push_back(
        {{"cluster", cluster},
         {"bytes_per_second", bytes / seconds},
         {"bytes_per_second_and_multiprocessor", bytes / seconds / static_cast<double>(sink.rows)},
         {"clusters_at_once", clusters}});
    r.text += fmt::format("{:<44}{:>12.2f}{:>12}\n",
                          cluster == 1 ? "each for itself" : fmt::format("clusters of {} share", cluster),
                          bytes / seconds / 1e12, clusters);
  }
}

BenchResult bench_device(const BenchOutput& o) {
  BenchMachineOptions options;
  options.device = "cuda", options.precision = "bf16";
  Machine machine = options.machine();
  const GpuInfo& info = machine.gpu()->info();
  if (info.architecture != kHopperArchitecture)
    throw UserError(
        fmt::format("{} is an sm_{}: these are parts of an sm_90 (H100, H200)", info.name, info.architecture));
  BenchRig bench(std::move(machine), DType::bf16, i64{64} << 20);
  BenchResult r{
      {{"bench", "device"}, {"machine", describe_environment(bench.machine())}},
      fmt::format("{}, {} multiprocessors\n", bench.machine().name(), bench.machine().gpu()->info().multiprocessors)};
  product_rates(bench, r);
  save(r, o.save);
  copy_rates(bench, r);
  return r;
}

}  // namespace

void add_bench_device(CLI::App& bench) {
  auto* cmd = bench.add_subcommand(
      "device", "The parts of an H100 or H200 that the cell's scan is made of: matrix instructions, copies, clusters");
  auto o = std::make_shared<BenchOutput>();
  o->add_to(*cmd);
  cmd->footer("Example:\n  xlstm bench device --save bench/results/device_h200.json");
  cmd->callback([o] { publish(bench_device(*o), o->json, o->save); });
}

}  // namespace xlstm
