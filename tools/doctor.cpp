// xlstm doctor
#include <filesystem>

#include "core/memory.h"
#include "core/parallel.h"
#include "core/text.h"
#include "tools/commands.h"
#include "train/hardware.h"

namespace xlstm {

namespace {

bool has_processor_flag(const std::string& flag) {
  const std::string info = read_file("/proc/cpuinfo");
  const std::size_t at = info.find("flags");
  if (at == std::string::npos) return false;
  const std::string line = info.substr(at, info.find('\n', at) - at) + " ";
  return line.find(" " + flag + " ") != std::string::npos;
}

Json features() {
  Json found = Json::array();
  for (const char* flag : {"avx2", "fma", "avx512f", "avx512_bf16", "amx_bf16"})
    if (has_processor_flag(flag)) found.push_back(flag);
  return found;
}

// What would make this machine faster or is missing, with what to do about it.
Json advice() {
  Json lines = Json::array();
  if (best_cpu_isa() == CpuIsa::baseline)
    lines.push_back("no AVX-512: the kernels run with AVX2, at about half the speed per core");
  if (has_processor_flag("amx_bf16")) lines.push_back("this processor has AMX, which run.precision=f32 does not use");
  lines.push_back("no GPU support in this build: run.device=cpu is the only choice");
  if (fs::space(".").available < (std::uintmax_t{5} << 30))
    lines.push_back("less than 5 GiB of disk are free here: checkpoints need room");
  return lines;
}

void print_doctor(bool as_json) {
  set_threads(0);
  Json j = describe_environment();
  const i64 memory = available_memory_bytes(), disk = static_cast<i64>(fs::space(".").available);
  const double gemm = measure_gemm_flops(best_cpu_isa(), 0.5), copy = measure_copy_bytes(best_cpu_isa(), 0.3);
  j["processor_features"] = features();
  j["disk_available_bytes"] = disk;
  j["gemm_flops"] = gemm;
  j["copy_bytes_per_second"] = copy;
  j["advice"] = advice();

  std::string text;
  const auto row = [&](const char* name, const std::string& value) { text += fmt::format("{:<18}{}\n", name, value); };
  row("program", j["program"].get<std::string>() + ", built with " + j["compiler"].get<std::string>());
  row("system", j["system"].get<std::string>());
  std::string flags;
  for (const Json& f : j["processor_features"]) flags += " " + f.get<std::string>();
  row("processor", fmt::format("{}, {} usable cores,{}", j["processor"].get<std::string>(), usable_cores(), flags));
  row("kernels", fmt::format("{}, oneDNN {}", name_of(best_cpu_isa()), j["onednn"].get<std::string>()));
  row("memory", human_bytes(memory) + " available");
  row("disk here", human_bytes(disk) + " free");
  row("matrix products", fmt::format("{:.0f} GF/s in f32 (measured)", gemm / 1e9));
  row("memory copy", fmt::format("{:.1f} GB/s read and written (measured)", copy / 1e9));
  for (const Json& line : j["advice"]) row("note", line.get<std::string>());
  print_result(as_json, j, text);
}

}  // namespace

void add_doctor_command(CLI::App& app) {
  auto* cmd = app.add_subcommand("doctor", "What this machine offers, measured, and what is missing");
  auto json = std::make_shared<bool>(false);
  cmd->add_flag("--json", *json, "One JSON object");
  cmd->footer("Example:\n  xlstm doctor --json");
  cmd->callback([json] { print_doctor(*json); });
}

}  // namespace xlstm
