#include "train/roofline.h"

#include <algorithm>

#include "model/flops.h"

namespace xlstm {

namespace {

// SXM modules; 1 GB = 10^9 bytes.
constexpr Hardware kHardware[] = {{"h100", 989e12, 3.35e12, 80'000'000'000},
                                  {"h200", 989e12, 4.8e12, 141'000'000'000},
                                  {"a100", 312e12, 2.04e12, 80'000'000'000}};

constexpr double kUpdateBytes = 7 * 4;  // per parameter: weight, m and v read and written, the gradient read; f32

bool is_product(OpClass c) {
  return c == OpClass::projections || c == OpClass::ffn || c == OpClass::head || c == OpClass::cell;
}

}  // namespace

const Hardware& hardware_named(const std::string& name) {
  for (const Hardware& h : kHardware)
    if (name == h.name) return h;
  throw user_error("--gpu {}: expected h100, h200 or a100; or say --gemm-gflops and --bandwidth-gbs", name);
}

double StepEstimate::seconds(double flops_per_second, double bytes_per_second) const {
  return std::max(product_flops / flops_per_second, product_bytes / bytes_per_second) + other_bytes / bytes_per_second;
}

StepEstimate estimate_step(const TrainConfig& cfg, Device device, Gpu* gpu) {
  TrainArenas arenas = TrainArenas::measuring(device);
  const TrainState state(arenas, cfg);
  Profile profile;
  Context dry{.device = device,
              .isa = best_cpu_isa(),
              .gpu = gpu,
              .cell_kernel = cfg.run.cell_kernel,
              .scratch = &arenas.scratch,
              .profile = &profile};
  state.model.forward_backward(dry, state.losses, state.batch.sequences(0, cfg.train.micro_batch_size), state.saved,
                               cfg.train.recompute, state.inverse_tokens());
  StepEstimate e;
  const auto passes = static_cast<double>(cfg.micro_batches());
  for (int c = 0; c < kOpClassCount; ++c)
    (is_product(static_cast<OpClass>(c)) ? e.product_bytes : e.other_bytes) +=
        passes * profile.classes[static_cast<std::size_t>(c)].bytes;
  const double forward = forward_flops_per_token(cfg.model, cfg.train.context_length);
  const double again = cfg.train.recompute == Recompute::block ? forward : 0;
  e.product_flops = static_cast<double>(cfg.tokens_per_step()) * (3 * forward + again);
  e.other_bytes += kUpdateBytes * static_cast<double>(state.params.count());
  return e;
}

}  // namespace xlstm
