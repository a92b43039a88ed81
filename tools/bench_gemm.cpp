// xlstm bench gemm: matrix products of a training step
#include <algorithm>
#include <span>

#include "core/parallel.h"
#include "core/text.h"
#include "tools/bench_rig.h"
#include "train/hardware.h"

namespace xlstm {

namespace {

struct GemmShape {
  const char* use;
  i64 out, in;
};

// Of models of 7 M, 42 M and 160 M on a processor; of 1.4 B on a GPU.
constexpr GemmShape kCpuShapes[] = {
    {"projection 256", 256, 256}, {"projection 512", 512, 512}, {"qkvo 512", 1536, 512},
    {"up 512", 2816, 512},        {"down 512", 512, 1408},      {"up 768", 4224, 768},
    {"head 256", 8192, 256},      {"head 512", 16384, 512},     {"head 768", 50304, 768}};
constexpr GemmShape kGpuShapes[] = {{"qkvo 2048", 6144, 2048},
                                    {"out 2048", 2048, 2048},
                                    {"up 2048", 11008, 2048},
                                    {"down 2048", 2048, 5504},
                                    {"head 2048", 50304, 2048}};
constexpr i64 kMostTokens = 1 << 18;  // with which the largest of these shapes still fit into memory

// What was tried out for each product on a device, in the order of the library's proposals.
void add_algorithms(BenchResult& r, Gpu& gpu) {
  const std::string text = gpu.new_product_choices();
  if (text.empty()) return;
  const Json products = Json::parse(text).at("choices").back().at("products");
  r.json["algorithms"] = products;
  r.text += fmt::format("\nms of each algorithm that was proposed (*: taken)\n{:>8}{:>8}{:>8}\n", "M", "N", "K");
  for (const Json& p : products) {
    r.text += fmt::format("{:>8}{:>8}{:>8} ", p.at("m").get<i64>(), p.at("n").get<i64>(), p.at("k").get<i64>());
    for (std::size_t i = 0; i < p.at("proposals").size(); ++i) {
      const Json& seconds = p.at("proposals")[i].at("seconds");
      r.text += fmt::format(" {}{}", seconds.is_null() ? "-" : fmt::format("{:.3f}", 1e3 * seconds.get<double>()),
                            i == p.at("taken").get<std::size_t>() ? "*" : "");
    }
    r.text += "\n";
  }
}

BenchResult bench_gemm(const BenchOutput& o, const BenchMachineOptions& options, i64 tokens) {
  set_threads(static_cast<int>(o.threads));
  Machine machine = options.machine();
  const bool gpu = machine.gpu() != nullptr;
  if (gpu) machine.gpu()->time_products(/*kept=*/"");
  const DType type = options.type(machine);
  BenchRig bench(std::move(machine), type, i64{gpu ? 12 : 4} << 30);
  const i64 head_rows = gpu ? 8192 : 1024;  // logits come in chunks
  if (tokens == 0) tokens = gpu ? 65536 : 2048;
  BenchResult r{
      {{"bench", "gemm"},
       {"tokens", tokens},
       {"type", name_of(bench.type())},
       {"machine", describe_environment(bench.machine())},
       {"rows", Json::array()}},
      fmt::format("{}, {}, {}, GF/s\n{:<16}{:>8}{:>8}{:>12}{:>12}{:>12}\n", counted(tokens, "token"),
                  bench.machine().name(), name_of(bench.type()), "", "out", "in", "y = xW'", "dx = dyW", "dW += dy'x")};
  const std::span<const GemmShape> shapes =
      gpu ? std::span<const GemmShape>(kGpuShapes) : std::span<const GemmShape>(kCpuShapes);
  for (const GemmShape& s : shapes) {
    bench.reset();
    const bool head = s.out > 4096 && std::string_view(s.use).starts_with("head");
    const i64 rows = head ? std::min(tokens, head_rows) : tokens;
    const Tensor x = bench.tensor(rows, s.in), y = bench.tensor(rows, s.out), w = bench.tensor(s.out, s.in);
    const Tensor dw = bench.single(s.out, s.in);
    const double flops = 2.0 * static_cast<double>(rows) * static_cast<double>(s.out) * static_cast<double>(s.in);
    const auto rate = [&](Tensor c, Tensor a, Tensor b, MatmulFlags flags) {
      return flops / bench.median_seconds([&] { ops::matmul(bench.ctx, c, a, b, flags); });
    };
    const double forward = rate(y, x, w, {.transpose_b = true}), dx = rate(x, y, w, {});
    const double weights = rate(dw, y, x, {.transpose_a = true, .accumulate = true});
    r.json["rows"].push_back({{"use", s.use},
                              {"tokens", rows},
                              {"out", s.out},
                              {"in", s.in},
                              {"forward", forward},
                              {"dx", dx},
                              {"dw", weights}});
    r.text += fmt::format("{:<16}{:>8}{:>8}{:>12.0f}{:>12.0f}{:>12.0f}\n", s.use, s.out, s.in, forward / 1e9, dx / 1e9,
                          weights / 1e9);
  }
  if (gpu) add_algorithms(r, *bench.machine().gpu());
  return r;
}

}  // namespace

void add_bench_gemm(CLI::App& bench) {
  auto* cmd = bench.add_subcommand("gemm", "Matrix products of the layers, forward and backward");
  auto o = std::make_shared<BenchOutput>();
  auto machine = std::make_shared<BenchMachineOptions>();
  auto tokens = std::make_shared<i64>(0);
  cmd->add_option("--tokens", *tokens, "Rows of activations [2048; 65536 on a GPU]")->check(at_least(1, kMostTokens));
  machine->add_to(*cmd);
  o->add_to(*cmd);
  cmd->footer("Example:\n  xlstm bench gemm --tokens 4096");
  cmd->callback([o, machine, tokens] { publish(bench_gemm(*o, *machine, *tokens), o->json, o->save); });
}

}  // namespace xlstm
