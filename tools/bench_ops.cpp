// xlstm bench ops: every op but the products, at the shapes of a training step
#include <algorithm>

#include "core/parallel.h"
#include "tools/bench_rig.h"
#include "train/hardware.h"

namespace xlstm {

namespace {

// One line per op: time, bytes that must move at least, FLOPs where they matter.
struct OpTable {
  BenchRig& bench;
  BenchResult& result;

  void add(const std::string& name, double bytes, double flops, const std::function<void()>& work) const {
    const double seconds = bench.median_seconds(work);
    result.json["rows"].push_back({{"op", name},
                                   {"seconds", seconds},
                                   {"bytes_per_second", bytes / seconds},
                                   {"flops_per_second", flops / seconds}});
    result.text += fmt::format("{:<40}{:>10.3f}{:>10.1f}{:>10.1f}\n", name, 1e3 * seconds, bytes / seconds / 1e9,
                               flops / seconds / 1e9);
  }
};

void dense_ops(const OpTable& t, i64 rows, i64 dim, i64 hidden) {
  BenchRig& b = t.bench;
  const double row_bytes = b.size() * static_cast<double>(rows * dim),
               hidden_bytes = b.size() * static_cast<double>(rows * hidden);
  const Tensor x = b.tensor(rows, dim), y = b.tensor(rows, dim), dy = b.tensor(rows, dim), dx = b.tensor(rows, dim);
  const Tensor w = b.single(1, dim), dw = b.single(1, dim), rstd = b.single(rows, 1);
  t.add("copy", 2 * row_bytes, 0, [&] { ops::copy(b.ctx, y, x); });
  t.add("add", 3 * row_bytes, 0, [&] { ops::add(b.ctx, y, x, dy); });
  t.add("rmsnorm_forward", 2 * row_bytes, 0, [&] { ops::rmsnorm_forward(b.ctx, y, rstd, x, w, 1e-6); });
  t.add("rmsnorm_backward", 4 * row_bytes, 0, [&] { ops::rmsnorm_backward(b.ctx, dx, dw, dy, y, x, w, rstd); });

  const i64 heads = 4;
  const Tensor gates = b.single(2 * heads, dim), dgates = b.single(2 * heads, dim), pre = b.single(rows, 2 * heads);
  t.add("rmsnorm_gates_forward", 2 * row_bytes, 0,
        [&] { ops::rmsnorm_gates_forward(b.ctx, y, rstd, pre, x, w, gates, 1e-6); });
  t.add("rmsnorm_gates_backward", 4 * row_bytes, 0,
        [&] { ops::rmsnorm_gates_backward(b.ctx, dx, dw, dgates, dy, y, pre, x, w, gates, rstd); });
  const Tensor mean = b.single(rows, heads), head_rstd = b.single(rows, heads), o = b.tensor(rows, dim),
               d_o = b.tensor(rows, dim);
  t.add("head_norm_gate_forward", 3 * row_bytes, 0,
        [&] { ops::head_norm_gate_forward(b.ctx, y, mean, head_rstd, x, o, w, 1e-6, HeadNorm::layernorm); });
  t.add("head_norm_gate_backward", 5 * row_bytes, 0,
        [&] { ops::head_norm_gate_backward(b.ctx, dx, d_o, dw, dy, x, o, w, mean, head_rstd, HeadNorm::layernorm); });

  const Tensor gate_bias = b.single(1, 2 * heads), extremes = b.single(2, 2 * heads);
  t.add("gate_extremes", static_cast<double>(pre.bytes()), 0,
        [&] { ops::gate_extremes(b.ctx, extremes, pre, gate_bias); });

  const Tensor gate_up = b.tensor(rows, 2 * hidden), act = b.tensor(rows, hidden),
               dgate_up = b.tensor(rows, 2 * hidden);
  t.add("swiglu_forward", 3 * hidden_bytes, 0, [&] { ops::swiglu_forward(b.ctx, act, gate_up); });
  t.add("swiglu_backward", 5 * hidden_bytes, 0, [&] { ops::swiglu_backward(b.ctx, dgate_up, act, gate_up); });
}

void vocabulary_ops(const OpTable& t, i64 rows, i64 dim, i64 vocab) {
  BenchRig& b = t.bench;
  const Tensor logits = b.single(rows, vocab), loss = b.single(rows, 1), ids = b.integers(rows, vocab);
  const Tensor scale = b.doubles(1, 1);
  const Tensor dz = b.type() == DType::f32 ? logits : b.tensor(rows, vocab);
  const double elements = static_cast<double>(rows * vocab), bytes = 4 * elements;
  t.add("cross_entropy", bytes + b.size() * elements, 0,
        [&] { ops::cross_entropy(b.ctx, loss, dz, logits, ids, scale, 30); });
  t.add("cross_entropy_forward", bytes, 0, [&] { ops::cross_entropy_forward(b.ctx, loss, logits, ids, 30); });
  const Tensor table = b.tensor(vocab, dim), dtable = b.single(vocab, dim), y = b.tensor(rows, dim);
  t.add("embedding_forward", 2 * b.size() * static_cast<double>(rows * dim), 0,
        [&] { ops::embedding_forward(b.ctx, y, ids, table); });
  t.add("embedding_backward", (8 + b.size()) * static_cast<double>(rows * dim), 0,
        [&] { ops::embedding_backward(b.ctx, dtable, y, ids); });
}

void update_ops(const OpTable& t, i64 parameters) {
  BenchRig& b = t.bench;
  const Tensor w = b.single(1, parameters), m = b.single(1, parameters), v = b.single(1, parameters),
               g = b.single(1, parameters);
  const Tensor rounded = b.type() == DType::f32 ? Tensor{} : b.tensor(1, parameters);
  ops::fill(b.ctx, v, 1e-3);
  const Tensor sums = b.doubles(sum_blocks(parameters), 1), scalars = b.doubles(1, kUpdateScalars);
  const double bytes = 4.0 * static_cast<double>(parameters);
  t.add("adamw", 7 * bytes + static_cast<double>(rounded.bytes()), 0, [&] {
    ops::adamw(b.ctx, w, rounded, m, v, g, scalars, {0.9, 0.95, 1e-8, 0.1});
  });
  t.add("sum_squares", bytes, 0, [&] { ops::sum_squares(b.ctx, sums, g); });
}

// `name`: where the shape comes from.
void cell_ops(const OpTable& t, CellShape shape, i64 tokens, i64 k, i64 v, const std::string& name) {
  BenchRig& b = t.bench;
  if (const Gpu* gpu = b.machine().gpu()) {
    shape.shared_bytes = gpu->info().shared_bytes;
    shape.architecture = gpu->info().architecture;
  }
  const i64 rows = shape.sequences * tokens, h = shape.heads;
  const auto inputs = [&] {
    return CellInputs{
        b.tensor(rows, h * k), b.tensor(rows, h * k), b.tensor(rows, h * v), {b.single(rows, h), b.single(rows, h)}};
  };
  const CellInputs in = inputs(), din = inputs();
  // pre-activations around those of a run's beginning; the names that the ops go by have no say in it
  const Tensor pre = b.single(rows, 2 * h), bias = b.single(1, 2 * h), starts = b.integers(rows, 1);
  ops::gates_forward(b.ctx, in.log, pre, bias, starts, InputGate::sigmoid, 15);
  const Tensor out = b.tensor(rows, h * v), dh = b.tensor(rows, h * v);
  const CellStats stats = shape.normalize ? CellStats{b.single(rows, h), b.single(rows, h)} : CellStats{};
  const Tensor ws =
      b.single(1, mlstm_workspace_elements(b.machine().device(), b.type(), shape, tokens, k, v, max_threads(), true));
  const double bytes = b.size() * static_cast<double>(rows * h * (2 * k + 2 * v));
  const auto row = [&](const char* pass) {
    return fmt::format("mlstm_{} {} {}/{}{}", pass, shape.normalize ? "exp" : "sig", k, v, name);
  };
  t.add(row("forward"), bytes, mlstm_forward_flops(shape, tokens, k, v),
        [&] { ops::mlstm_forward(b.ctx, out, stats, {}, in, {}, shape, ws); });
  t.add(row("backward"), 2 * bytes, mlstm_backward_flops(shape, tokens, k, v),
        [&] { ops::mlstm_backward(b.ctx, din, {}, dh, {}, in, stats, {}, shape, ws); });
}

// Shapes of a 42 M model, which a processor trains.
void cpu_sections(const OpTable& t, const std::function<void(const std::function<void()>&)>& section) {
  section([&] { dense_ops(t, 4096, 512, 1408); });
  section([&] { vocabulary_ops(t, 1024, 512, 16384); });
  section([&] { update_ops(t, 42'500'000); });
  const CellShape exp{.sequences = 4, .heads = 4}, sig{.sequences = 4, .heads = 4, .normalize = false};
  section([&] { cell_ops(t, exp, 1024, 64, 128, ""); });
  section([&] { cell_ops(t, sig, 1024, 64, 128, ""); });
  section([&] { cell_ops(t, exp, 1024, 32, 64, ""); });
}

// Shapes of the 1.4 B model at 65,536 tokens, and those at which kernels of the cell were published (docs/kernels.md).
void gpu_sections(const OpTable& t, const std::function<void(const std::function<void()>&)>& section,
                  CellKernel wanted) {
  section([&] { dense_ops(t, 65536, 2048, 5504); });
  section([&] { vocabulary_ops(t, 8192, 2048, 50304); });
  section([&] { update_ops(t, 400'000'000); });
  struct Published {
    CellShape shape;
    i64 k, v;
    const char* name;
  };
  const Published shapes[] = {{{.sequences = 8, .heads = 8}, 256, 512, ", 8 x 8192, NH 8"},
                              {{.sequences = 8, .heads = 4}, 256, 512, ", 8 x 8192, NH 4"},
                              {{.sequences = 1, .heads = 4}, 256, 512, ", 1 x 8192, NH 4"},
                              {{.sequences = 8, .heads = 16}, 128, 256, ", 8 x 8192, NH 16"}};
  const auto cells = [&](Published p, bool normalize, CellKernel kernel, const char* which) {
    p.shape.normalize = normalize;
    p.shape.kernel = kernel;
    section([&] { cell_ops(t, p.shape, 8192, p.k, p.v, std::string(p.name) + which); });
  };
  for (const Published& p : shapes)
    for (const bool normalize : {true, false}) cells(p, normalize, wanted, "");
  if (wanted == CellKernel::automatic && t.bench.machine().gpu()->info().architecture == kHopperArchitecture)
    for (const Published& p : shapes) cells(p, /*normalize=*/true, CellKernel::portable, ", portable");
}

BenchResult bench_ops(const BenchOutput& o, const BenchMachineOptions& options, CellKernel cells) {
  set_threads(static_cast<int>(o.threads));
  Machine machine = options.machine();
  const bool gpu = machine.gpu() != nullptr;
  const DType type = options.type(machine);
  BenchRig bench(std::move(machine), type, i64{gpu ? 16 : 2} << 30);
  BenchResult r{{{"bench", "ops"},
                 {"type", name_of(bench.type())},
                 {"machine", describe_environment(bench.machine())},
                 {"rows", Json::array()}},
                fmt::format("{}, {}\n{:<40}{:>10}{:>10}{:>10}\n", bench.machine().name(), name_of(bench.type()), "op",
                            "ms", "GB/s", "GF/s")};
  const OpTable table{bench, r};
  const auto section = [&](const std::function<void()>& part) {
    bench.reset();
    part();
    save(r, o.save);  // what is measured is there, whatever becomes of the rest
  };
  gpu ? gpu_sections(table, section, cells) : cpu_sections(table, section);
  return r;
}

}  // namespace

void add_bench_ops(CLI::App& bench) {
  auto* cmd = bench.add_subcommand(
      "ops", "Every op but the products, at the shapes of a 42 M model (1.4 B on a GPU): ms, GB/s, GF/s");
  auto o = std::make_shared<BenchOutput>();
  auto machine = std::make_shared<BenchMachineOptions>();
  machine->add_to(*cmd);
  o->add_to(*cmd);
  auto kernel = std::make_shared<std::string>("auto");
  const auto names = names_of(CellKernel{});
  cmd->add_option("--cell-kernel", *kernel, "As run.cell_kernel")
      ->check(CLI::IsMember(std::vector<std::string>(names.begin(), names.end())))
      ->capture_default_str();
  cmd->footer("Example:\n  xlstm bench ops --threads 1");
  cmd->callback([o, machine, kernel, names] {
    const auto which = static_cast<CellKernel>(std::find(names.begin(), names.end(), *kernel) - names.begin());
    publish(bench_ops(*o, *machine, which), o->json, o->save);
  });
}

}  // namespace xlstm
