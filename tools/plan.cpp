// xlstm plan
#include "core/memory.h"
#include "core/parallel.h"
#include "core/text.h"
#include "model/flops.h"
#include "tools/commands.h"
#include "train/exchange.h"
#include "train/fit.h"
#include "train/hardware.h"
#include "train/machine.h"
#include "train/memory.h"
#include "train/roofline.h"

namespace xlstm {

namespace {

struct Options {
  std::string config, gpu;
  std::vector<std::string> set;
  std::optional<double> gemm_gflops, bandwidth_gbs, memory_gib, price;
  int ranks = 1, hosts = 1;
  bool json = false;

  Ranks of() const { return {0, ranks}; }  // the first has the largest share
  int on_a_host() const { return (ranks + hosts - 1) / hosts; }
};

// The machine that is meant: this one, measured, unless the options say more.
struct Target {
  Device device = Device::cuda;
  std::optional<Machine> machine;
  double flops = 0, bytes = 0;  // per second; 0: not known
  AvailableMemory memory;       // 0: not known
};

void check_positive(const char* option, const std::optional<double>& value) {
  if (value && !(*value > 0)) throw user_error("{} {}: expected a positive number", option, *value);
}

// With what this machine's processor has of what is asked for
RunConfig here(RunConfig run) {
  run.cpu_isa = if_there(run.cpu_isa);
  return run;
}

Target find_target(const Options& o, const TrainConfig& cfg) {
  Target t;
  if (!o.gpu.empty()) {
    const Hardware& named = hardware_named(o.gpu);
    t.flops = named.flops;
    t.bytes = named.bytes;
    t.memory = {.host = available_memory_bytes(), .device = named.memory};
  } else if ((t.machine = machine_if_there(here(cfg.run)))) {
    t.device = t.machine->device();
    t.memory = AvailableMemory::of(*t.machine);
    const bool same = if_there(cfg.run.cpu_isa) == cfg.run.cpu_isa;  // or its speed is not known here
    if (!o.gemm_gflops && same) t.flops = measure_gemm_flops(*t.machine, activation_type(cfg.run), 0.5);
    if (!o.bandwidth_gbs) t.bytes = measure_copy_bytes(*t.machine, 0.3);
  }
  if (o.gemm_gflops) t.flops = *o.gemm_gflops * 1e9;
  if (o.bandwidth_gbs) t.bytes = *o.bandwidth_gbs * 1e9;
  if (o.memory_gib)
    (t.device == Device::cuda ? t.memory.device : t.memory.host) = static_cast<i64>(*o.memory_gib * 0x1p30);
  t.memory.sharing = o.on_a_host();
  return t;
}

// Bytes of each tensor class, and what one block more adds to it: all blocks are alike.
struct MemoryRow {
  std::string name;
  i64 bytes = 0, per_block = 0;
};

std::vector<MemoryRow> memory_rows(const TrainConfig& cfg, const Target& t, Ranks ranks) {
  Gpu* gpu = t.machine ? t.machine->gpu() : nullptr;
  std::vector<MemoryRow> rows;
  for (const ArenaSize& size : measure_training(cfg, t.device, gpu, ranks)) rows.push_back({size.name, size.bytes});
  TrainConfig more = cfg;
  ++more.model.num_blocks;
  const std::vector<ArenaSize> larger = measure_training(more, t.device, gpu, ranks);
  for (std::size_t i = 0; i < rows.size() && i < larger.size(); ++i)
    rows[i].per_block = larger[i].bytes - rows[i].bytes;
  return rows;
}

std::vector<std::string> suggestions(const TrainConfig& cfg, const Target& t, Ranks ranks) {
  if (t.memory.host == 0 && t.memory.device == 0) return {};
  const Suggestions s = suggest(cfg, t.device, t.memory, t.machine ? t.machine->gpu() : nullptr, ranks);
  std::vector<std::string> lines;
  if (s.micro_batch_size) lines.push_back(fmt::format("--set train.micro_batch_size={}", *s.micro_batch_size));
  if (s.recompute)
    lines.push_back(
        fmt::format("--set train.recompute={}", names_of(Recompute{})[static_cast<std::size_t>(*s.recompute)]));
  return lines;
}

std::string memory_table(const std::vector<MemoryRow>& rows, const Options& o) {
  std::string text =
      fmt::format("{:<26}{:>12}{:>14}\n", o.ranks == 1 ? "memory" : "memory of a rank", "all", "a block more");
  i64 bytes = 0, per_block = 0;
  for (const MemoryRow& row : rows) {
    text += fmt::format("  {:<24}{:>12}{:>14}\n", row.name, human_bytes(row.bytes), human_bytes(row.per_block));
    bytes += row.bytes;
    per_block += row.per_block;
  }
  return text + fmt::format("  {:<24}{:>12}{:>14}\n", "total", human_bytes(bytes), human_bytes(per_block));
}

// What each rank sends in a step.
ExchangedBytes planned_exchange(const TrainConfig& cfg, Device device, Ranks ranks) {
  TrainArenas arenas = TrainArenas::measuring(device);
  return exchanged_bytes(TrainState(arenas, cfg, ranks), cfg);
}

std::string exchange_row(const ExchangedBytes& e) {
  const auto bytes = [](double x) { return human_bytes(static_cast<i64>(x)); };
  return fmt::format("sent per step     {} by each rank: gradients {}, weights {}, all else {}\n", bytes(e.total()),
                     bytes(e.gradients), bytes(e.weights), bytes(e.small));
}

void print_plan(const Options& o) {
  check_positive("--gemm-gflops", o.gemm_gflops);
  check_positive("--bandwidth-gbs", o.bandwidth_gbs);
  check_positive("--memory-gib", o.memory_gib);
  check_positive("--price", o.price);
  const TrainConfig cfg = load_train_config(o.config, o.set);
  set_threads(static_cast<int>(cfg.run.threads));
  const Target t = find_target(o, cfg);
  const std::vector<MemoryRow> memory = memory_rows(cfg, t, o.of());
  const std::vector<ArenaSize> sizes = measure_training(cfg, t.device, t.machine ? t.machine->gpu() : nullptr, o.of());
  const ExchangedBytes exchanged = planned_exchange(cfg, t.device, o.of());
  const StepEstimate estimate = estimate_step(cfg, t.device, t.machine ? t.machine->gpu() : nullptr);
  const bool known = t.flops > 0 && t.bytes > 0;
  // Every rank has a GPU of its own; on processors, those of a host share it.
  const double step = known ? estimate.seconds(t.flops, t.bytes) / (t.device == Device::cuda ? o.ranks : o.hosts) : 0;
  const double rate = known ? static_cast<double>(cfg.tokens_per_step()) / step : 0;
  const double flops = training_flops_per_token(cfg.model, cfg.train.context_length);
  const double seconds = static_cast<double>(cfg.train.steps) * step;
  const i64 parameters = parameter_count(cfg.model);
  const std::vector<std::string> paste = suggestions(cfg, t, o.of());

  Json bytes = Json::object(), per_block = Json::object();
  for (const MemoryRow& row : memory) {
    bytes[row.name] = row.bytes;
    per_block[row.name] = row.per_block;
  }
  std::string text =
      fmt::format("parameters        {} ({})\n", parameters, human_count(static_cast<double>(parameters))) +
      memory_table(memory, o);
  if (t.device == Device::cuda)
    text += fmt::format("  {:<24}{:>12}\n", "of which on the GPU", human_bytes(total_bytes(sizes, Device::cuda)));
  const i64 of_host = host_bytes(sizes, o.on_a_host());
  if (o.ranks > 1)
    text += fmt::format("  {:<24}{:>12}\n", fmt::format("of a host, {}", counted(o.on_a_host(), "rank")),
                        human_bytes(of_host)) +
            exchange_row(exchanged);
  const bool too_large = (t.memory.host > 0 && of_host > t.memory.host) ||
                         (t.memory.device > 0 && total_bytes(sizes, Device::cuda) > t.memory.device);
  if (too_large)
    text += fmt::format("  more than there is: {} of memory, {} on a GPU are available\n", human_bytes(t.memory.host),
                        human_bytes(t.memory.device));
  text += fmt::format("FLOPs per token   {}\n", human_count(flops));
  text += fmt::format("tokens per step   {} ({} sequences of {}, {} reduction slots)\n", cfg.tokens_per_step(),
                      cfg.train.batch_size, cfg.train.context_length, cfg.parallel.reduction_slots);
  if (known) {
    text += fmt::format(
        "at most           {:.0f} tokens/s (products at {:.0f} GF/s, memory at {:.0f} GB/s)\n{} steps      at least "
        "{}\n",
        rate, t.flops / 1e9, t.bytes / 1e9, cfg.train.steps, human_duration(seconds));
    if (o.price) text += fmt::format("price             at least {:.2f}\n", seconds / 3600 * *o.price);
  } else {
    text += "speed             not known here: name a --gpu, or say --gemm-gflops and --bandwidth-gbs\n";
  }
  for (const std::string& line : paste) text += fmt::format("it also fits      {}\n", line);
  print_result(o.json,
               {{"parameters", parameters},
                {"ranks", o.ranks},
                {"total_bytes", total_bytes(sizes)},
                {"host_bytes", of_host},
                {"sent_bytes", exchanged.total()},
                {"sent_bytes_of_gradients", exchanged.gradients},
                {"sent_bytes_of_weights", exchanged.weights},
                {"available_bytes", t.memory.host},
                {"available_gpu_bytes", t.memory.device},
                {"fits", !too_large},
                {"bytes", bytes},
                {"bytes_per_block", per_block},
                {"flops_per_token", flops},
                {"tokens_per_step", cfg.tokens_per_step()},
                {"tokens_per_second", rate},
                {"gemm_flops", t.flops},
                {"memory_bytes_per_second", t.bytes},
                {"seconds", seconds},
                {"price", o.price && known ? Json(seconds / 3600 * *o.price) : Json(nullptr)},
                {"suggestions", paste}},
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
  cmd->add_option("--bandwidth-gbs", o->bandwidth_gbs, "Of the memory meant, GB/s [measured on this machine]");
  cmd->add_option("--gpu", o->gpu, "Plan for a GPU by its data sheet: h100, h200, a100")->check(not_empty("a GPU"));
  cmd->add_option("--memory-gib", o->memory_gib, "Memory of the device meant [what is available]");
  cmd->add_option("--ranks", o->ranks, "Of the run; memory is then that of one of them")
      ->check(at_least(1, 1 << 20))
      ->capture_default_str();
  cmd->add_option("--hosts", o->hosts, "That they are shared out among")
      ->check(at_least(1, 1 << 20))
      ->capture_default_str();
  cmd->add_option("--price", o->price, "Of an hour on it, in any currency");
  cmd->add_flag("--json", o->json, "One JSON object");
  cmd->footer("Example:\n  xlstm plan --config configs/mlstm_exp_160m.yaml --set train.recompute=block");
  cmd->callback([o] { print_plan(*o); });
}

}  // namespace xlstm
