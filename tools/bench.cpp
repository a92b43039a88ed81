// xlstm bench, and xlstm bench step: whole updates on random tokens
#include "tools/bench.h"

#include <algorithm>

#include "core/memory.h"
#include "core/parallel.h"
#include "core/text.h"
#include "model/flops.h"
#include "model/init.h"
#include "tools/bench_ranks.h"
#include "tools/ranks.h"
#include "train/agreement.h"
#include "train/hardware.h"
#include "train/step.h"

namespace xlstm {

void publish(const BenchResult& result, bool as_json, const std::string& save) {
  print_result(as_json, result.json, result.text);
  xlstm::save(result, save);
}

void save(const BenchResult& result, const std::string& save) {
  if (save.empty()) return;
  Json file = result.json;
  file["environment"] = file.contains("machine") ? file["machine"] : describe_environment();
  if (const fs::path folder = fs::path(save).parent_path(); !folder.empty()) make_directory(folder);
  write_file_atomically(save, to_text(file, 2) + "\n");
}

void BenchOutput::add_to(CLI::App& cmd) {
  cmd.add_flag("--json", json, "One JSON object");
  cmd.add_option("--save", save, "Write the JSON, with the environment, to this file")
      ->each([](const std::string& file) { check_output_file(file, "--save"); });
  cmd.add_option("--threads", threads, "[every usable core]")->check(thread_count());
}

namespace {

constexpr i64 kMostSteps = 1'000'000;

struct StepOptions {
  std::string config;
  std::vector<std::string> set;
  i64 steps = 5, warmup = 1;
  BenchOutput out;
};

}  // namespace

StepTimes time_steps(const TrainConfig& cfg, const Machine& machine, i64 steps, i64 warmup) {
  if (machine.gpu() && cfg.run.gemm_algorithms == GemmAlgorithms::timed) machine.gpu()->time_products(/*kept=*/"");
  const auto sizes = measure_training(cfg, machine.device(), machine.gpu());
  TrainArenas arenas(sizes, machine.gpu(), /*pin=*/false);  // nothing is saved here
  StepTimes times;
  times.planned_bytes = total_bytes(sizes);
  Context ctx = machine.context(arenas.scratch);
  TrainState state(arenas, cfg);
  initialise(ctx, state.params, static_cast<std::uint64_t>(cfg.run.seed));
  state.round_parameters(ctx);
  TrainStep step(ctx, state, cfg);
  const TokenBatch batch = random_batch(cfg, {});
  for (i64 i = 0; i < warmup + steps; ++i) {
    const Timer timer;
    step.run(batch, 1e-4, i + 1);
    if (i >= warmup) times.seconds.push_back(timer.seconds());
  }
  // Apart, because a GPU is stopped behind every op to see its time.
  ctx.profile = &times.profile.ops;
  const Timer timer;
  step.run(batch, 1e-4, warmup + steps + 1);
  times.profile.add_step(timer.seconds(), /*waited=*/0);
  return times;
}

namespace {

// floor: products at the rate of a large one, or every tensor once at that of a large copy, whichever takes longer
Json class_rows(const Profile& profile, double seconds_per_step, double gemm, double copy, std::string& text) {
  Json rows = Json::array();
  text += fmt::format("{:<14}{:>12}{:>9}{:>12}{:>12}{:>10}\n", "class", "ms/step", "share", "floor ms", "GF/s", "GB/s");
  for (int c = 0; c < kOpClassCount; ++c) {
    const auto& e = profile.classes[static_cast<std::size_t>(c)];
    const double busy = e.seconds > 0 ? e.seconds : 1, floor = std::max(e.flops / gemm, e.bytes / copy);
    const char* name = name_of(static_cast<OpClass>(c));
    rows.push_back({{"class", name},
                    {"seconds", e.seconds},
                    {"share", e.seconds / seconds_per_step},
                    {"floor_seconds", floor},
                    {"flops_per_second", e.flops / busy},
                    {"bytes_per_second", e.bytes / busy}});
    text += fmt::format("{:<14}{:>12.2f}{:>8.1f}%{:>12.2f}{:>12.1f}{:>10.1f}\n", name, 1e3 * e.seconds,
                        100 * e.seconds / seconds_per_step, 1e3 * floor, e.flops / busy / 1e9, e.bytes / busy / 1e9);
  }
  return rows;
}

// Under mpirun.
BenchResult bench_step_of_ranks(const StepOptions& o, const TrainConfig& cfg, Communicator& ranks) {
  ranks.configure({.timeout = static_cast<double>(cfg.parallel.timeout)});
  agree(ranks, facts_of_program());
  agree(ranks, facts_of(cfg));
  ranks.together("ranks", [&] { check_ranks(cfg, ranks.size()); });
  set_threads(threads_of_rank(ranks, o.out.threads > 0 ? o.out.threads : cfg.run.threads));
  const Machine machine = open_machine(ranks, cfg.run);
  BenchResult r = bench_ranks(cfg, o.steps, o.warmup, machine, ranks);
  r.json["bench"] = "step";
  r.json["config"] = write_config(cfg);
  const Json own = r.json[names_of(Reduction{})[static_cast<std::size_t>(cfg.parallel.reduction)]];
  r.json["tokens_per_second"] = own["tokens_per_second"];
  r.json["seconds_per_step"] = own["seconds_per_step"];
  r.json["peak_bytes"] = peak_resident_bytes();
  r.json["machine"] = describe_environment(machine);
  return r;
}

BenchResult bench_step(const StepOptions& o, const TrainConfig& cfg) {
  set_threads(static_cast<int>(o.out.threads > 0 ? o.out.threads : cfg.run.threads));
  const Machine machine(cfg.run);
  StepTimes times = time_steps(cfg, machine, o.steps, o.warmup);
  const double seconds = times.median();
  const double rate = static_cast<double>(cfg.tokens_per_step()) / seconds;
  const double gemm = measure_gemm_flops(machine, activation_type(cfg.run), 0.5);
  const double copy = measure_copy_bytes(machine, 0.3);
  const double flops = training_flops_per_token(cfg.model, cfg.train.context_length);
  const i64 peak = peak_resident_bytes();

  BenchResult r;
  r.text = fmt::format("{}: {} tokens per step, {}, {}\n", cfg.run.name, cfg.tokens_per_step(), machine.name(),
                       counted(o.steps, "step"));
  r.text +=
      fmt::format("{:.0f} tokens/s, {:.4f} s per step (median; {:.4f} - {:.4f}), {:.1f} % of GEMM peak ({:.0f} GF/s)\n",
                  rate, seconds, times.seconds.front(), times.seconds.back(), 100 * rate * flops / gemm, gemm / 1e9);
  r.text += fmt::format("memory: planned {}, peak resident {}\n", human_bytes(times.planned_bytes), human_bytes(peak));
  const Json rows = class_rows(times.profile.ops, times.profile.seconds, gemm, copy, r.text);
  r.json = {{"bench", "step"},
            {"config", write_config(cfg)},
            {"tokens_per_second", rate},
            {"seconds_per_step", seconds},
            {"peak_bytes", peak},
            {"planned_bytes", times.planned_bytes},
            {"mfu", rate * flops / gemm},
            {"gemm_flops", gemm},
            {"copy_bytes_per_second", copy},
            {"threads", max_threads()},
            {"machine", describe_environment(machine)},
            {"classes", rows}};
  return r;
}

}  // namespace

void add_bench_step(CLI::App& bench) {
  auto* cmd = bench.add_subcommand("step",
                                   "Whole updates on random tokens: tokens/s, memory, time per operator class (of one "
                                   "more step) beside what it takes at the rates of a large product and a large copy");
  auto o = std::make_shared<StepOptions>();
  cmd->add_option("--config", o->config, "YAML file (configs/, bench/configs/)")->required();
  cmd->add_option("--set", o->set, "Override a key of the config: key=value; may be repeated");
  cmd->add_option("--steps", o->steps, "Steps that are timed")->check(at_least(1, kMostSteps))->capture_default_str();
  cmd->add_option("--warmup", o->warmup, "Steps before them")->check(at_least(0, kMostSteps))->capture_default_str();
  o->out.add_to(*cmd);
  cmd->footer(
      "Example:\n  xlstm bench step --config bench/configs/small.yaml --save bench/results/step_small.json\n"
      "Under mpirun: both reductions, and the same work per rank by one rank alone\n"
      "  mpirun -np 2 xlstm bench step --config bench/configs/small.yaml --set train.batch_size=8");
  cmd->callback([o] {
    with_ranks("xlstm bench step", [&](Communicator& ranks) {
      const TrainConfig cfg = load_config_on_all(ranks, o->config, o->set);
      if (ranks.size() == 1) return publish(bench_step(*o, cfg), o->out.json, o->out.save);
      const BenchResult r = bench_step_of_ranks(*o, cfg, ranks);
      if (ranks.first()) publish(r, o->out.json, o->out.save);
    });
  });
}

void add_bench_command(CLI::App& app) {
  auto* bench = app.add_subcommand("bench", "The speed of each part, as a table and as JSON");
  bench->require_subcommand(1);
  bench->footer("Example:\n  xlstm bench gemm --json");
  add_bench_step(*bench);
  add_bench_inference(*bench);
  add_bench_gemm(*bench);
  add_bench_ops(*bench);
  add_bench_device(*bench);
  add_bench_loader(*bench);
  add_bench_checkpoint(*bench);
  add_bench_sweep(*bench);
  add_bench_transfer(*bench);
}

}  // namespace xlstm
