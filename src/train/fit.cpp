#include "train/fit.h"

#include <optional>

#include "core/text.h"

namespace xlstm {

bool fits(const std::vector<ArenaSize>& sizes, const AvailableMemory& available) {
  return host_bytes(sizes, available.sharing) <= available.host && total_bytes(sizes, Device::cuda) <= available.device;
}

namespace {

// Every policy from the run's own on, which computes least again.
std::optional<Recompute> cheapest_recompute(TrainConfig cfg, Device device, Gpu* gpu, Ranks ranks,
                                            const AvailableMemory& available) {
  for (const Recompute policy : {Recompute::cheap, Recompute::block}) {
    if (policy <= cfg.train.recompute) continue;
    cfg.train.recompute = policy;
    if (fits(measure_training(cfg, device, gpu, ranks), available)) return policy;
  }
  return std::nullopt;
}

std::optional<i64> largest_micro_batch(TrainConfig cfg, Device device, Gpu* gpu, Ranks ranks,
                                       const AvailableMemory& available) {
  for (i64 size = cfg.train.micro_batch_size - 1; size >= 1; --size) {
    if (cfg.train.batch_size % size != 0) continue;
    cfg.train.micro_batch_size = size;
    if (cfg.micro_batches() % cfg.parallel.reduction_slots != 0 || cfg.micro_batches() % ranks.size != 0) continue;
    if (fits(measure_training(cfg, device, gpu, ranks), available)) return size;
  }
  return std::nullopt;
}

std::string advice(const TrainConfig& cfg, Device device, Gpu* gpu, Ranks ranks, const AvailableMemory& available) {
  std::string text;
  if (const auto policy = cheapest_recompute(cfg, device, gpu, ranks, available))
    text += fmt::format("--set train.recompute={}", names_of(Recompute{})[static_cast<std::size_t>(*policy)]);
  if (const auto size = largest_micro_batch(cfg, device, gpu, ranks, available))
    text += fmt::format("{}--set train.micro_batch_size={}", text.empty() ? "" : " or ", *size);
  if (text.empty()) return "no micro-batch and no train.recompute makes it fit: a smaller model or context is needed";
  return text + " would fit";
}

}  // namespace

Suggestions suggest(const TrainConfig& cfg, Device device, const AvailableMemory& available, Gpu* gpu, Ranks ranks) {
  Suggestions s;
  TrainConfig larger = cfg;
  larger.train.micro_batch_size = cfg.train.batch_size + 1;
  s.micro_batch_size = largest_micro_batch(larger, device, gpu, ranks, available);
  if (s.micro_batch_size == cfg.train.micro_batch_size) s.micro_batch_size.reset();
  for (const Recompute policy : {Recompute::none, Recompute::cheap, Recompute::block}) {
    TrainConfig other = cfg;
    other.train.recompute = policy;
    if (!fits(measure_training(other, device, gpu, ranks), available)) continue;
    if (policy != cfg.train.recompute) s.recompute = policy;
    break;
  }
  return s;
}

// For what libraries load and take on a device by themselves.
constexpr i64 kReserve = i64{512} << 20;

AvailableMemory AvailableMemory::of(const Machine& machine, int sharing) {
  // The workspace of the matrix library, which is part of a plan, has been taken already.
  return {.host = available_memory_bytes(),
          .device = machine.gpu() ? machine.gpu()->available_bytes() + Gpu::kWorkspaceBytes - kReserve : 0,
          .sharing = sharing};
}

void expect_fit(const std::string& what, const std::vector<ArenaSize>& sizes, const AvailableMemory& available,
                const std::function<std::string()>& advice) {
  const auto refuse = [&](const std::string& where, i64 needed, i64 there) {
    if (needed > there)
      throw user_error("{} needs {} of {} and {} are available; {}", what, human_bytes(needed), where,
                       human_bytes(there), advice());
  };
  const i64 all = host_bytes(sizes, available.sharing), more = total_bytes(sizes, Device::cpu);
  refuse(available.sharing == 1 ? "memory"
                                : fmt::format("memory ({} for the largest of {} ranks on this host)", human_bytes(more),
                                              available.sharing),
         all, available.host);
  refuse("GPU memory", total_bytes(sizes, Device::cuda), available.device);
}

std::vector<ArenaSize> plan_within(const TrainConfig& cfg, Device device, const AvailableMemory& available, Gpu* gpu,
                                   Ranks ranks) {
  std::vector<ArenaSize> sizes = measure_training(cfg, device, gpu, ranks);
  expect_fit("this run", sizes, available,
             [&] { return advice(cfg, device, gpu, ranks, available) + " ('xlstm plan' shows the bill)"; });
  return sizes;
}

}  // namespace xlstm
