#pragma once
// What a run computes on, opened once: the processor or a GPU, as run.device asks.
#include <optional>

#include "core/context.h"
#include "train/config.h"
#include "train/safetensors.h"

namespace xlstm {

class Machine {
 public:
  // auto: a GPU if this program has CUDA kernels and the machine a GPU, the processor otherwise. UserError says why a
  // device that was asked for cannot be had.
  // `ordinal`: which GPU; ranks of one host take one each.
  explicit Machine(const RunConfig& run, int ordinal = 0);
  Machine() = default;  // the processor

  Device device() const { return gpu_ ? Device::cuda : Device::cpu; }
  CpuIsa isa() const { return isa_; }
  Gpu* gpu() const { return gpu_.get(); }
  Context context(Arena& scratch, Profile* profile = nullptr) const;
  std::string kind() const;  // what bits depend on: "cpu avx512", "NVIDIA H100"
  std::string name() const;  // for a line of the log: "2 threads (avx512)", "NVIDIA H100"

 private:
  CpuIsa isa_ = best_cpu_isa();
  std::unique_ptr<Gpu> gpu_;
  CellKernel cell_kernel_ = CellKernel::automatic;
  bool check_ops_ = false;
};

// Of activations and products.
DType activation_type(const RunConfig& run);

// On a processor, whether this one has it or not: plans are made for others, too. auto: the best of this one.
CpuIsa isa_asked_for(const RunConfig& run);

// Another one where this machine has not what a run was trained with: for a model that is only used.
CpuIsaChoice if_there(CpuIsaChoice choice);

// Nothing if run.device asks for a GPU and there is none: plans are made without it, too.
std::optional<Machine> machine_if_there(const RunConfig& run);

// Tensors in host memory that stand for others: the same ones if those are there already.
class HostTwins {
 public:
  HostTwins(const std::vector<NamedTensor>& tensors, Arena& arena);
  const std::vector<NamedTensor>& host() const { return host_; }
  void upload(Context& ctx) const;

 private:
  const std::vector<NamedTensor> device_;
  std::vector<NamedTensor> host_;
};

}  // namespace xlstm
