// xlstm plan
#include "core/memory.h"
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
  std::optional<double> gemm_gflops;
  bool json = false;
};

// An upper bound: every product of a step at the peak rate of large ones, and nothing besides.
double expected_tokens_per_second(const TrainConfig& cfg, double gemm_flops) {
  return gemm_flops / training_flops_per_token(cfg.model, cfg.train.context_length);
}

void print_plan(const Options& o) {
  if (o.gemm_gflops && !(*o.gemm_gflops > 0))
    throw user_error("--gemm-gflops {}: expected a positive number", *o.gemm_gflops);
  const TrainConfig cfg = load_train_config(o.config, o.set);
  set_threads(static_cast<int>(cfg.run.threads));
  const auto machine = machine_if_there(cfg.run);
  const Device device = machine ? machine->device() : Device::cuda;
  check_precision(cfg.run, device);
  const std::vector<ArenaSize> sizes = measure_training(cfg, device, machine ? machine->gpu() : nullptr);
  double gemm = 0;  // not known
  if (o.gemm_gflops || machine) gemm = o.gemm_gflops ? *o.gemm_gflops * 1e9 : measure_gemm_flops(*machine, 0.5);
  const double rate = expected_tokens_per_second(cfg, gemm);
  const double flops = training_flops_per_token(cfg.model, cfg.train.context_length);
  const double seconds = rate > 0 ? static_cast<double>(cfg.train.steps * cfg.tokens_per_step()) / rate : 0;
  const i64 parameters = parameter_count(cfg.model);

  Json arenas = Json::object();
  std::string text =
      fmt::format("parameters        {} ({})\nmemory\n", parameters, human_count(static_cast<double>(parameters)));
  for (const ArenaSize& size : sizes) {
    arenas[size.name] = size.bytes;
    text += fmt::format("  {:<24}{:>12}\n", size.name, human_bytes(size.bytes));
  }
  text += fmt::format("  {:<24}{:>12}\n", "total", human_bytes(total_bytes(sizes)));
  const i64 available = available_memory_bytes();
  if (device == Device::cuda)
    text += fmt::format("  {:<24}{:>12}\n", "of which on the GPU", human_bytes(total_bytes(sizes, Device::cuda)));
  if (total_bytes(sizes, Device::cpu) > available)
    text += fmt::format("  more than this machine has now: {} are available\n", human_bytes(available));
  text += fmt::format("FLOPs per token   {}\n", human_count(flops));
  text += fmt::format("tokens per step   {} ({} sequences of {}, {} reduction slots)\n", cfg.tokens_per_step(),
                      cfg.train.batch_size, cfg.train.context_length, cfg.parallel.reduction_slots);
  if (rate > 0)
    text += fmt::format(
        "at most           {:.0f} tokens/s (matrix products at {:.0f} GF/s, nothing else)\n{} steps      at least {}\n",
        rate, gemm / 1e9, cfg.train.steps, human_duration(seconds));
  else
    text += "speed             not known here: say --gemm-gflops of the GPU that is meant\n";
  print_result(o.json,
               {{"parameters", parameters},
                {"total_bytes", total_bytes(sizes)},
                {"available_bytes", available},
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
