#include "tools/bench_rig.h"

#include <algorithm>

#include "core/random.h"
#include "tools/bench.h"

namespace xlstm {

namespace {

constexpr int kRepetitions = 9;
constexpr i64 kRandomFloats = i64{1} << 20;
constexpr i64 kFlushBytes = i64{256} << 20;  // several times a GPU's second-level cache

}  // namespace

BenchRig::BenchRig(Machine machine, DType activations, i64 bytes)
    : machine_(std::move(machine)),
      type_(activations),
      buffer_(bytes + 8 * kRandomFloats + (machine_.gpu() ? kFlushBytes : 0), machine_.gpu()),
      arena_("bench", buffer_.data(), buffer_.bytes(), machine_.device()),
      scratch_("none", none_, 0) {
  ctx = machine_.context(scratch_);
  random_ = arena_.alloc("random", DType::f32, 1, kRandomFloats);
  const RandomStream stream(1, RandomUse::bench);
  std::vector<float> values(static_cast<std::size_t>(kRandomFloats));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(stream.uniform(i) - 0.5);
  upload(ctx, random_, values.data());
  if (machine_.gpu()) flush_ = arena_.alloc("flush", DType::f32, 1, kFlushBytes / 4);
  tensors_ = arena_.mark();
}

Tensor BenchRig::tensor(i64 rows, i64 cols, DType type) {
  const Tensor t = arena_.alloc("bench", type, rows, cols), row = t.flat();
  for (i64 begin = 0; begin < row.cols; begin += kRandomFloats) {
    const i64 end = std::min(row.cols, begin + kRandomFloats);
    ops::copy(ctx, row.slice_cols(begin, end), random_.slice_cols(0, end - begin));
  }
  return t;
}

Tensor BenchRig::integers(i64 rows, i64 below) {
  const Tensor t = arena_.alloc("ids", DType::i32, rows, 1);
  const RandomStream stream(2, RandomUse::bench);
  std::vector<std::int32_t> values(static_cast<std::size_t>(rows));
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] = static_cast<std::int32_t>(stream.bits(i) % static_cast<std::uint64_t>(below));
  upload(ctx, t, values.data());
  return t;
}

Tensor BenchRig::doubles(i64 rows, i64 cols) {
  const Tensor t = arena_.alloc("doubles", DType::f64, rows, cols);
  upload(ctx, t, std::vector<double>(static_cast<std::size_t>(t.size()), 0.1).data());
  return t;
}

double BenchRig::median_seconds(const std::function<void()>& work) {
  work();
  std::vector<double> seconds;
  for (int i = 0; i < kRepetitions; ++i) {
    if (Gpu* gpu = machine_.gpu()) {
      ops::fill(ctx, flush_, i);
      seconds.push_back(gpu->seconds_of(work));
    } else {
      const Timer timer;
      work();
      seconds.push_back(timer.seconds());
    }
  }
  std::sort(seconds.begin(), seconds.end());
  return seconds[kRepetitions / 2];
}

void BenchMachineOptions::add_to(CLI::App& cmd) {
  cmd.add_option("--device", device, "auto, cpu or cuda")->check(CLI::IsMember({"auto", "cpu", "cuda"}));
  cmd.add_option("--precision", precision, "f32 or bf16 [bf16 on a GPU]")->check(CLI::IsMember({"f32", "bf16"}));
}

Machine BenchMachineOptions::machine() const {
  RunConfig run;
  run.device = device == "cpu" ? DeviceChoice::cpu : device == "cuda" ? DeviceChoice::cuda : DeviceChoice::automatic;
  return Machine(run);
}

DType BenchMachineOptions::type(const Machine& machine) const {
  RunConfig run;
  const bool bf16 = precision.empty() ? machine.gpu() != nullptr : precision == "bf16";
  run.precision = bf16 ? Precision::bf16 : Precision::f32;
  return activation_type(run);
}

}  // namespace xlstm
