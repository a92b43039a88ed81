// xlstm doctor
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "core/memory.h"
#include "core/parallel.h"
#include "core/text.h"
#include "dist/communicator.h"
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

// What a line "key: value" of a file under /proc says; "" when there is none.
std::string proc_value(const fs::path& path, const std::string& key) {
  std::ifstream in(path);
  for (std::string line; std::getline(in, line);)
    if (line.starts_with(key)) return line.substr(line.find_first_not_of(" \t", key.size()));
  return "";
}

// As the driver's own files tell them, without linking to it.
Json gpus() {
  Json found = Json::array();
  std::error_code none;
  for (const auto& gpu : fs::directory_iterator("/proc/driver/nvidia/gpus", none))
    found.push_back(proc_value(gpu.path() / "information", "Model:"));
  return found;
}

// Where the shell would find a program; null when it would not.
Json find_program(const std::string& name) {
  std::istringstream path(std::getenv("PATH") ? std::getenv("PATH") : "");
  for (std::string dir; std::getline(path, dir, ':');)
    if (const fs::path file = fs::path(dir) / name; access(file.c_str(), X_OK) == 0) return file.string();
  return nullptr;
}

std::string or_none(const Json& j) { return j.is_string() ? j.get<std::string>() : "not found"; }

// What would make this machine faster or is missing, with what to do about it.
Json advice(const Machine& machine) {
  Json lines = Json::array();
  if (best_cpu_isa() == CpuIsa::baseline)
    lines.push_back("no AVX-512: the kernels run with AVX2, at about half the speed per core");
  if (!has_gpu_back_end())
    lines.push_back(gpus().empty() ? "no NVIDIA driver is loaded; this build computes on the CPU in any case"
                                   : "there is a GPU, but this build computes on the CPU alone: scripts/build.sh cuda");
  else if (!machine.gpu())
    lines.push_back("this build could compute on a GPU, but there is none that it can use: see the line above");
  if (fs::space(".").available < (std::uintmax_t{5} << 30))
    lines.push_back(
        "less than 5 GiB of disk are free here; a checkpoint takes 12 bytes per parameter: see 'xlstm plan'");
  if (sysconf(_SC_NPROCESSORS_ONLN) > usable_cores())
    lines.push_back(fmt::format("{} of {} cores may be used (affinity or cgroup quota)", usable_cores(),
                                sysconf(_SC_NPROCESSORS_ONLN)));
  return lines;
}

std::string nccl_row() {
  if (nccl_version().empty())
    return has_gpu_back_end()
               ? "not part of this build: several ranks cannot share GPUs (install libnccl-dev, build again)"
               : "not part of this build, which is for the processor";
  const std::string here = nccl_library_version();
  return fmt::format("built with {}; {}", nccl_version(),
                     here.empty() ? "libnccl.so.2 is not found: install libnccl2, or name its folder in LD_LIBRARY_PATH"
                                  : "the library here is " + here);
}

// Which of the kernels' instruction sets compute, and why none that is faster.
Json instruction_sets() {
  Json sets = Json::object();
  for (const CpuIsa isa : kCpuIsas) sets[name_of(isa)] = missing_for(isa).empty() ? "usable" : missing_for(isa);
  return sets;
}

std::string kernels(const Json& doctor) {
  std::string text = name_of(best_cpu_isa());
  for (const CpuIsa isa : kCpuIsas)
    if (const std::string missing = missing_for(isa); isa > best_cpu_isa() && !missing.empty())
      text += fmt::format("; not {}: {}", name_of(isa), missing);
  return text + "; oneDNN " + doctor["onednn"].get<std::string>();
}

void print_doctor(bool as_json) {
  set_threads(0);
  const Machine machine{RunConfig{}};
  Json j = describe_environment(machine);
  const i64 memory = available_memory_bytes(), disk = static_cast<i64>(fs::space(".").available);
  const double gemm = measure_gemm_flops(machine, DType::f32, 0.5), copy = measure_copy_bytes(machine, 0.3);
  j["processor_features"] = features();
  j["instruction_sets"] = instruction_sets();
  j["gpus"] = gpus();
  j["nvidia_driver"] = proc_value("/proc/driver/nvidia/version", "NVRM version:");
  j["nvcc"] = find_program("nvcc");
  j["mpirun"] = find_program("mpirun");
  j["nccl_library"] = nccl_library_version().empty() ? Json(nullptr) : Json(nccl_library_version());
  j["disk_available_bytes"] = disk;
  j["gemm_flops"] = gemm;
  j["copy_bytes_per_second"] = copy;
  j["advice"] = advice(machine);

  std::string text;
  const auto row = [&](const char* name, const std::string& value) { text += fmt::format("{:<18}{}\n", name, value); };
  row("program", j["program"].get<std::string>() + ", built with " + j["compiler"].get<std::string>());
  row("system", j["system"].get<std::string>());
  std::string flags;
  for (const Json& f : j["processor_features"]) flags += " " + f.get<std::string>();
  row("processor", fmt::format("{}, {} usable cores,{}", j["processor"].get<std::string>(), usable_cores(), flags));
  row("kernels", kernels(j));
  row("memory", human_bytes(memory) + " available");
  row("disk here", human_bytes(disk) + " free");
  std::string gpu_names;
  for (const Json& gpu : j["gpus"]) gpu_names += (gpu_names.empty() ? "" : ", ") + gpu.get<std::string>();
  row("GPUs", gpu_names.empty() ? "none found" : gpu_names + "; driver " + j["nvidia_driver"].get<std::string>());
  row("CUDA compiler", or_none(j["nvcc"]));
  row("mpirun", or_none(j["mpirun"]));
  row("MPI", j["mpi"].is_null() ? "not part of this build: runs have one process" : j["mpi"].get<std::string>());
  row("NCCL", nccl_row());
  row("computes on", machine.name());
  row("matrix products", fmt::format("{:.0f} GF/s in {} (measured)", gemm / 1e9, machine.gpu() ? "bf16" : "f32"));
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
