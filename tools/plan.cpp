// xlstm plan
#include "core/parallel.h"
#include "core/text.h"
#include "model/flops.h"
#include "tools/commands.h"
#include "train/hardware.h"
#include "train/machine.h"
#include "train/memory.h"

namespace xlstm {

namespace {

struct Options {
  std::string config;
  std::vector<std::string> set;
  double gemm_gflops = 0;
  bool json = false;
};

// An upper bound: every product of a step at the peak rate of large ones, and nothing besides.
double expected_tokens_per_second(const TrainConfig& cfg, double gemm_flops) {
  return gemm_flops / training_flops_per_token(cfg.model, cfg.train.context_length);
}

void print_plan(const Options& o) {
  if (!(o.gemm_gflops >= 0)) throw user_error("--gemm-gflops {}: expected a positive number", o.gemm_gflops);
  const TrainConfig cfg = load_train_config(o.config, o.set);
  set_threads(static_cast<int>(cfg.run.threads));
  check_precision(cfg.run, planned_device(cfg.run));
  const std::vector<ArenaSize> sizes = measure_training(cfg, planned_device(cfg.run));
  const double gemm = o.gemm_gflops > 0 ? o.gemm_gflops * 1e9 : measure_gemm_flops(Machine(), 0.5);
  const double rate = expected_tokens_per_second(cfg, gemm);
  const double flops = training_flops_per_token(cfg.model, cfg.train.context_length);
  const double seconds = static_cast<double>(cfg.train.steps * cfg.tokens_per_step()) / rate;
  const i64 parameters = parameter_count(cfg.model);

  Json arenas = Json::object();
  std::string text =
      fmt::format("parameters        {} ({})\nmemory\n", parameters, human_count(static_cast<double>(parameters)));
  for (const ArenaSize& size : sizes) {
    arenas[size.name] = size.bytes;
    text += fmt::format("  {:<24}{:>12}\n", size.name, human_bytes(size.bytes));
  }
  text += fmt::format("  {:<24}{:>12}\n", "total", human_bytes(total_bytes(sizes)));
  text += fmt::format("FLOPs per token   {}\n", human_count(flops));
  text += fmt::format("tokens per step   {} ({} sequences of {}, {} reduction slots)\n", cfg.tokens_per_step(),
                      cfg.train.batch_size, cfg.train.context_length, cfg.parallel.reduction_slots);
  text += fmt::format("at most           {:.0f} tokens/s (matrix products at {:.0f} GF/s, nothing else)\n", rate,
                      gemm / 1e9);
  text += fmt::format("{} steps      at least {}\n", cfg.train.steps, human_duration(seconds));
  print_result(o.json,
               {{"parameters", parameters},
                {"total_bytes", total_bytes(sizes)},
                {"bytes", arenas},
                {"flops_per_token", flops},
                {"tokens_per_step", cfg.tokens_per_step()},
                {"tokens_per_second", rate},
                {"gemm_flops", gemm},
                {"seconds", seconds}},
               text);
}

}  // namespace

void add_plan_command(CLI::App& app) {
  auto* cmd = app.add_subcommand("plan", "Memory, parameters, FLOPs and speed of a config, before it runs");
  auto o = std::make_shared<Options>();
  cmd->add_option("--config", o->config, "YAML file (configs/)")->required();
  cmd->add_option("--set", o->set, "Override a key of the config: key=value; may be repeated");
  cmd->add_option("--gemm-gflops", o->gemm_gflops,
                  "Speed of matrix products on the machine meant [measured on this one]");
  cmd->add_flag("--json", o->json, "One JSON object");
  cmd->footer("Example:\n  xlstm plan --config configs/mlstm_exp_160m.yaml --set train.recompute=block");
  cmd->callback([o] { print_plan(*o); });
}

}  // namespace xlstm
