// xlstm bench gemm and bench ops: matrix products and the other ops at the shapes of a training step
#include <algorithm>
#include <functional>

#include "core/memory.h"
#include "core/parallel.h"
#include "core/random.h"
#include "core/text.h"
#include "kernels/ops.h"
#include "tools/bench.h"

namespace xlstm {

namespace {

constexpr int kRepetitions = 9;

// Random tensors in one buffer. Zeros would flatter the processor.
class Bench {
 public:
  explicit Bench(i64 bytes)
      : buffer_(bytes), arena_("bench", buffer_.data(), bytes), scratch_("none", buffer_.data(), 0) {
    ctx.isa = best_cpu_isa();
    ctx.scratch = &scratch_;
  }

  Tensor tensor(i64 rows, i64 cols) {
    const Tensor t = arena_.alloc("bench", DType::f32, rows, cols);
    const RandomStream random(1, RandomUse::bench, static_cast<std::uint64_t>(arena_.mark()));
    float* p = t.row<float>();
    parallel_blocks(t.size(), 1 << 16, [&](i64 begin, i64 end) {
      for (i64 i = begin; i < end; ++i) p[i] = static_cast<float>(random.uniform(static_cast<std::uint64_t>(i)) - 0.5);
    });
    return t;
  }

  Tensor integers(i64 rows, i64 below) {
    const Tensor t = arena_.alloc("ids", DType::i32, rows, 1);
    const RandomStream random(2, RandomUse::bench);
    for (i64 i = 0; i < rows; ++i)
      *t.row<std::int32_t>(i) =
          static_cast<std::int32_t>(random.bits(static_cast<std::uint64_t>(i)) % static_cast<std::uint64_t>(below));
    return t;
  }

  // Of an update: each is 0.1.
  Tensor doubles(i64 rows, i64 cols) {
    const Tensor t = arena_.alloc("doubles", DType::f64, rows, cols);
    ops::fill(ctx, t, 0.1);
    return t;
  }

  double median_seconds(const std::function<void()>& work) {
    work();
    std::vector<double> seconds;
    for (int i = 0; i < kRepetitions; ++i) {
      const Timer timer;
      work();
      seconds.push_back(timer.seconds());
    }
    std::sort(seconds.begin(), seconds.end());
    return seconds[kRepetitions / 2];
  }

  void reset() { arena_.rewind(0); }

  Context ctx;

 private:
  Buffer buffer_;
  Arena arena_, scratch_;
};

struct GemmShape {
  const char* use;
  i64 out, in;
};

constexpr i64 kGemmBytes = i64{4} << 30;
constexpr i64 kMostTokens = 1 << 18;  // with which the largest of these shapes still fit into that

BenchResult bench_gemm(const BenchOutput& o, i64 tokens) {
  set_threads(static_cast<int>(o.threads));
  constexpr GemmShape shapes[] = {{"projection 256", 256, 256}, {"projection 512", 512, 512}, {"qkvo 512", 1536, 512},
                                  {"up 512", 2816, 512},        {"down 512", 512, 1408},      {"up 768", 4224, 768},
                                  {"head 256", 8192, 256},      {"head 512", 16384, 512},     {"head 768", 50304, 768}};
  Bench bench(kGemmBytes);
  BenchResult r{{{"bench", "gemm"}, {"tokens", tokens}, {"threads", max_threads()}, {"rows", Json::array()}},
                fmt::format("{}, {}, GF/s\n{:<16}{:>8}{:>8}{:>12}{:>12}{:>12}\n", counted(tokens, "token"),
                            counted(max_threads(), "thread"), "", "out", "in", "y = xW'", "dx = dyW", "dW += dy'x")};
  for (const GemmShape& s : shapes) {
    bench.reset();
    const i64 rows = s.out > 4096 ? std::min<i64>(tokens, 1024) : tokens;  // logits come in chunks
    const Tensor x = bench.tensor(rows, s.in), y = bench.tensor(rows, s.out), w = bench.tensor(s.out, s.in);
    const double flops = 2.0 * static_cast<double>(rows) * static_cast<double>(s.out) * static_cast<double>(s.in);
    const double forward =
        flops / bench.median_seconds([&] { ops::matmul(bench.ctx, y, x, w, {.transpose_b = true}); });
    const double dx = flops / bench.median_seconds([&] { ops::matmul(bench.ctx, x, y, w, {}); });
    const double dw = flops / bench.median_seconds(
                                  [&] { ops::matmul(bench.ctx, w, y, x, {.transpose_a = true, .accumulate = true}); });
    r.json["rows"].push_back(
        {{"use", s.use}, {"tokens", rows}, {"out", s.out}, {"in", s.in}, {"forward", forward}, {"dx", dx}, {"dw", dw}});
    r.text += fmt::format("{:<16}{:>8}{:>8}{:>12.0f}{:>12.0f}{:>12.0f}\n", s.use, s.out, s.in, forward / 1e9, dx / 1e9,
                          dw / 1e9);
  }
  return r;
}

// One line per op: time, bytes that must move at least, FLOPs where they matter.
struct OpTable {
  Bench& bench;
  BenchResult& result;

  void add(const char* name, double bytes, double flops, const std::function<void()>& work) const {
    const double seconds = bench.median_seconds(work);
    result.json["rows"].push_back({{"op", name},
                                   {"seconds", seconds},
                                   {"bytes_per_second", bytes / seconds},
                                   {"flops_per_second", flops / seconds}});
    result.text += fmt::format("{:<28}{:>10.3f}{:>10.1f}{:>10.1f}\n", name, 1e3 * seconds, bytes / seconds / 1e9,
                               flops / seconds / 1e9);
  }
};

void dense_ops(const OpTable& t, i64 rows, i64 dim, i64 hidden) {
  Bench& b = t.bench;
  const double row_bytes = 4.0 * static_cast<double>(rows * dim),
               hidden_bytes = 4.0 * static_cast<double>(rows * hidden);
  const Tensor x = b.tensor(rows, dim), y = b.tensor(rows, dim), dy = b.tensor(rows, dim), dx = b.tensor(rows, dim);
  const Tensor w = b.tensor(1, dim), dw = b.tensor(1, dim), rstd = b.tensor(rows, 1);
  t.add("copy", 2 * row_bytes, 0, [&] { ops::copy(b.ctx, y, x); });
  t.add("add", 3 * row_bytes, 0, [&] { ops::add(b.ctx, y, x, dy); });
  t.add("rmsnorm_forward", 2 * row_bytes, 0, [&] { ops::rmsnorm_forward(b.ctx, y, rstd, x, w, 1e-6); });
  t.add("rmsnorm_backward", 3 * row_bytes, 0, [&] { ops::rmsnorm_backward(b.ctx, dx, dw, dy, x, w, rstd); });

  const i64 heads = 4;
  const Tensor mean = b.tensor(rows, heads), head_rstd = b.tensor(rows, heads), o = b.tensor(rows, dim),
               d_o = b.tensor(rows, dim);
  t.add("head_norm_gate_forward", 3 * row_bytes, 0,
        [&] { ops::head_norm_gate_forward(b.ctx, y, mean, head_rstd, x, o, w, 1e-6); });
  t.add("head_norm_gate_backward", 5 * row_bytes, 0,
        [&] { ops::head_norm_gate_backward(b.ctx, dx, d_o, dw, dy, x, o, w, mean, head_rstd); });

  const Tensor gate_up = b.tensor(rows, 2 * hidden), act = b.tensor(rows, hidden),
               dgate_up = b.tensor(rows, 2 * hidden);
  t.add("swiglu_forward", 3 * hidden_bytes, 0, [&] { ops::swiglu_forward(b.ctx, act, gate_up); });
  t.add("swiglu_backward", 5 * hidden_bytes, 0, [&] { ops::swiglu_backward(b.ctx, dgate_up, act, gate_up); });
}

void vocabulary_ops(const OpTable& t, i64 rows, i64 dim, i64 vocab) {
  Bench& b = t.bench;
  const Tensor logits = b.tensor(rows, vocab), loss = b.tensor(rows, 1), ids = b.integers(rows, vocab);
  const double bytes = 4.0 * static_cast<double>(rows * vocab);
  t.add("cross_entropy", 2 * bytes, 0, [&] { ops::cross_entropy(b.ctx, loss, logits, logits, ids, 30, 1e-4); });
  t.add("cross_entropy_forward", bytes, 0, [&] { ops::cross_entropy_forward(b.ctx, loss, logits, ids, 30); });
  const Tensor table = b.tensor(vocab, dim), y = b.tensor(rows, dim);
  t.add("embedding_forward", 8.0 * static_cast<double>(rows * dim), 0,
        [&] { ops::embedding_forward(b.ctx, y, ids, table); });
  t.add("embedding_backward", 12.0 * static_cast<double>(rows * dim), 0,
        [&] { ops::embedding_backward(b.ctx, table, y, ids); });
}

void update_ops(const OpTable& t, i64 parameters) {
  Bench& b = t.bench;
  const Tensor w = b.tensor(1, parameters), m = b.tensor(1, parameters), v = b.tensor(1, parameters),
               g = b.tensor(1, parameters);
  ops::fill(b.ctx, v, 1e-3);
  const Tensor sums = b.doubles(sum_blocks(parameters), 1), scalars = b.doubles(1, kUpdateScalars);
  const double bytes = 4.0 * static_cast<double>(parameters);
  t.add("adamw", 7 * bytes, 0, [&] { ops::adamw(b.ctx, w, {}, m, v, g, scalars, {0.9, 0.95, 1e-8, 0.1}); });
  t.add("sum_squares", bytes, 0, [&] { ops::sum_squares(b.ctx, sums, g); });
}

void cell_ops(const OpTable& t, const CellShape& shape, i64 tokens, i64 k, i64 v, const char* forward,
              const char* backward) {
  Bench& b = t.bench;
  const i64 rows = shape.sequences * tokens, h = shape.heads;
  const auto inputs = [&] {
    return CellInputs{
        b.tensor(rows, h * k), b.tensor(rows, h * k), b.tensor(rows, h * v), {b.tensor(rows, h), b.tensor(rows, h)}};
  };
  const CellInputs in = inputs(), din = inputs();
  ops::fill(b.ctx, in.log.i, -2);
  ops::fill(b.ctx, in.log.f, -0.05);
  const Tensor out = b.tensor(rows, h * v), dh = b.tensor(rows, h * v);
  const CellStats stats = shape.normalize ? CellStats{b.tensor(rows, h), b.tensor(rows, h)} : CellStats{};
  const Tensor ws =
      b.tensor(1, mlstm_workspace_elements(Device::cpu, DType::f32, shape, tokens, k, v, max_threads(), true));
  const double bytes = 4.0 * static_cast<double>(rows * h * (2 * k + 2 * v));
  t.add(forward, bytes, mlstm_forward_flops(shape, tokens, k, v),
        [&] { ops::mlstm_forward(b.ctx, out, stats, {}, in, {}, shape, ws); });
  t.add(backward, 2 * bytes, mlstm_backward_flops(shape, tokens, k, v),
        [&] { ops::mlstm_backward(b.ctx, din, {}, dh, {}, in, stats, {}, shape, ws); });
}

BenchResult bench_ops(const BenchOutput& o) {
  set_threads(static_cast<int>(o.threads));
  Bench bench(i64{2} << 30);
  BenchResult r{
      {{"bench", "ops"}, {"threads", max_threads()}, {"rows", Json::array()}},
      fmt::format("{}\n{:<28}{:>10}{:>10}{:>10}\n", counted(max_threads(), "thread"), "op", "ms", "GB/s", "GF/s")};
  const OpTable table{bench, r};
  const auto section = [&](const std::function<void()>& part) {
    bench.reset();
    part();
  };
  section([&] { dense_ops(table, 4096, 512, 1408); });
  section([&] { vocabulary_ops(table, 1024, 512, 16384); });
  section([&] { update_ops(table, 42'500'000); });
  const CellShape exp{.sequences = 4, .heads = 4}, sig{.sequences = 4, .heads = 4, .normalize = false};
  section([&] { cell_ops(table, exp, 1024, 64, 128, "mlstm_forward exp 64/128", "mlstm_backward exp 64/128"); });
  section([&] { cell_ops(table, sig, 1024, 64, 128, "mlstm_forward sig 64/128", "mlstm_backward sig 64/128"); });
  section([&] { cell_ops(table, exp, 1024, 32, 64, "mlstm_forward exp 32/64", "mlstm_backward exp 32/64"); });
  return r;
}

}  // namespace

void add_bench_gemm(CLI::App& bench) {
  auto* cmd = bench.add_subcommand("gemm", "Matrix products of the layers, forward and backward");
  auto o = std::make_shared<BenchOutput>();
  auto tokens = std::make_shared<i64>(2048);
  cmd->add_option("--tokens", *tokens, "Rows of activations")->check(at_least(1, kMostTokens))->capture_default_str();
  o->add_to(*cmd);
  cmd->footer("Example:\n  xlstm bench gemm --tokens 4096");
  cmd->callback([o, tokens] { publish(bench_gemm(*o, *tokens), o->json, o->save); });
}

void add_bench_ops(CLI::App& bench) {
  auto* cmd = bench.add_subcommand("ops", "Every op but the products, at the shapes of a 42 M model: ms, GB/s, GF/s");
  auto o = std::make_shared<BenchOutput>();
  o->add_to(*cmd);
  cmd->footer("Example:\n  xlstm bench ops --threads 1");
  cmd->callback([o] { publish(bench_ops(*o), o->json, o->save); });
}

}  // namespace xlstm
