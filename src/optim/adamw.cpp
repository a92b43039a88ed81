#include "optim/adamw.h"

#include <algorithm>
#include <cmath>

namespace xlstm {

void OptimizerConfig::check() const {
  const auto require = [](bool ok, const char* key, double value, const char* expected) {
    if (!ok) throw user_error("optimizer.{}: is {}; {} is expected", key, value, expected);
  };
  require(lr >= 0, "lr", lr, "0 or more");
  require(0 <= beta1 && beta1 < 1, "beta1", beta1, "0 to less than 1");
  require(0 <= beta2 && beta2 < 1, "beta2", beta2, "0 to less than 1");
  require(static_cast<float>(eps) > 0, "eps", eps, "more than 0, also in 32 bits,");
  require(weight_decay >= 0, "weight_decay", weight_decay, "0 or more");
  require(clip >= 0, "clip", clip, "0 (no clipping) or more");
}

AdamW::AdamW(const OptimizerConfig& cfg, const ParamStore& params, Arena& state)
    : AdamW(cfg, params, {{0, params.flat_size(), 0}}, state) {}

AdamW::AdamW(const OptimizerConfig& cfg, const ParamStore& params, std::vector<Part> parts, Arena& state,
             Tensor masters)
    : cfg_(cfg), params_(params), parts_(std::move(parts)), masters_(masters) {
  const DType t = stat_type(params.dtype());
  i64 owned = 0;
  for (const Part& part : parts_) {
    XL_CHECK(part.at == owned && part.begin <= part.end, "part [{}, {}) at {}", part.begin, part.end, part.at);
    owned += part.end - part.begin;
  }
  flat_ = {state.alloc("m", t, 1, owned), state.alloc("v", t, 1, owned)};
}

std::array<double, kUpdateScalars> AdamW::scalars(double lr, i64 t, double inverse_tokens, double norm_limit) const {
  XL_CHECK(t >= 1, "updates count from 1, got {}", t);
  const double n = static_cast<double>(t);
  return {lr, 1 - std::pow(cfg_.beta1, n), 1 - std::pow(cfg_.beta2, n), inverse_tokens, norm_limit};
}

void AdamW::step(Context& ctx, Tensor scalars) const {
  const ClassScope in(ctx, OpClass::optimizer);
  for (const Part& part : parts_) {
    for (const ParamStore::Run& run : params_.runs()) {
      const i64 begin = std::max(run.begin, part.begin), end = std::min(run.end, part.end);
      if (begin >= end) continue;
      const auto cut = [&](const Tensor& row) { return row.rows == 0 ? row : row.slice_cols(begin, end); };
      const auto own = [&](const Tensor& row) {
        return row.slice_cols(part.at + begin - part.begin, part.at + end - part.begin);
      };
      ops::adamw(ctx, masters_.rows > 0 ? own(masters_) : cut(params_.flat_masters()), cut(params_.flat_rounded()),
                 own(flat_.m), own(flat_.v), cut(params_.flat_grads()), scalars,
                 {.beta1 = cfg_.beta1,
                  .beta2 = cfg_.beta2,
                  .eps = cfg_.eps,
                  .weight_decay = run.decay ? cfg_.weight_decay : 0});
    }
  }
}

}  // namespace xlstm
