#include "train/machine.h"

#include "core/log.h"
#include "core/parallel.h"
#include "core/text.h"

namespace xlstm {

namespace {

std::unique_ptr<Gpu> open_if_there(int ordinal) {
  try {
    return open_gpu(ordinal);
  } catch (const std::runtime_error& e) {  // UserError: there is none; GpuError: it does not work
    log_info("on the processor: {}", e.what());
    return nullptr;
  }
}

std::unique_ptr<Gpu> open(DeviceChoice choice, int ordinal) {
  if (choice == DeviceChoice::cpu) return nullptr;
  if (has_gpu_back_end()) return choice == DeviceChoice::cuda ? open_gpu(ordinal) : open_if_there(ordinal);
  if (choice == DeviceChoice::cuda)
    throw user_error("run.device: cuda is not part of this build (scripts/build.sh cuda); use auto or cpu");
  return nullptr;
}

CpuIsa isa_of(CpuIsaChoice choice) {
  return choice == CpuIsaChoice::automatic ? best_cpu_isa() : kCpuIsas[static_cast<std::size_t>(choice) - 1];
}

CpuIsa chosen(CpuIsaChoice choice) {
  const CpuIsa isa = isa_of(choice);
  if (const std::string missing = missing_for(isa); !missing.empty())
    throw user_error("run.cpu_isa: {} cannot be had, because {}; use auto, which is {} here",
                     names_of(choice)[static_cast<std::size_t>(choice)], missing, name_of(best_cpu_isa()));
  return isa;
}

}  // namespace

DType activation_type(const RunConfig& run) { return run.precision == Precision::bf16 ? DType::bf16 : DType::f32; }

Machine::Machine(const RunConfig& run, int ordinal)
    : isa_(chosen(run.cpu_isa)),
      gpu_(open(run.device, ordinal)),
      cell_kernel_(run.cell_kernel),
      check_ops_(run.check == Check::full) {}

Context Machine::context(Arena& scratch, Profile* profile) const {
  return {.device = device(),
          .isa = isa_,
          .gpu = gpu_.get(),
          .cell_kernel = cell_kernel_,
          .scratch = &scratch,
          .profile = profile,
          .check_ops = check_ops_};
}

std::string Machine::kind() const { return gpu_ ? gpu_->info().name : fmt::format("cpu {}", name_of(isa_)); }

std::string Machine::name() const {
  if (gpu_) return gpu_->info().name;
  return fmt::format("{} ({})", counted(max_threads(), "thread"), name_of(isa_));
}

CpuIsaChoice if_there(CpuIsaChoice choice) {
  return missing_for(isa_of(choice)).empty() ? choice : CpuIsaChoice::automatic;
}

CpuIsa isa_asked_for(const RunConfig& run) { return isa_of(run.cpu_isa); }

std::optional<Machine> machine_if_there(const RunConfig& run) {
  try {
    return Machine(run);
  } catch (const std::runtime_error&) {
    return std::nullopt;
  }
}

HostTwins::HostTwins(const std::vector<NamedTensor>& tensors, Arena& arena) : device_(tensors) {
  for (const NamedTensor& t : tensors) {
    if (t.value.device == Device::cpu)
      host_.push_back(t);
    else
      host_.push_back({t.name, arena.alloc(t.name, t.value.dtype, t.value.rows, t.value.cols), t.is_matrix});
  }
}

void HostTwins::upload(Context& ctx) const {
  for (std::size_t i = 0; i < host_.size(); ++i)
    if (device_[i].value.device != Device::cpu) xlstm::upload(ctx, device_[i].value, host_[i].value.data);
}

}  // namespace xlstm
