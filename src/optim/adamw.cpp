#include "optim/adamw.h"

namespace xlstm {

void OptimizerConfig::check() const {
  const auto require = [](bool ok, const char* key, double value, const char* expected) {
    if (!ok) throw user_error("optimizer.{}: is {}; {} is expected", key, value, expected);
  };
  require(lr >= 0, "lr", lr, "0 or more");
  require(0 <= beta1 && beta1 < 1, "beta1", beta1, "0 to less than 1");
  require(0 <= beta2 && beta2 < 1, "beta2", beta2, "0 to less than 1");
  require(eps > 0, "eps", eps, "more than 0");
  require(weight_decay >= 0, "weight_decay", weight_decay, "0 or more");
  require(clip >= 0, "clip", clip, "0 (no clipping) or more");
}

AdamW::AdamW(const OptimizerConfig& cfg, const ParamStore& params, Arena& state) : cfg_(cfg), params_(params) {
  const DType t = stat_type(params.dtype());
  const std::vector<Tensor> m = params.alloc_like(state, t), v = params.alloc_like(state, t);
  for (std::size_t i = 0; i < m.size(); ++i) moments_.push_back({m[i], v[i]});
}

void AdamW::step(Context& ctx, double lr, double grad_scale, i64 t) const {
  const ClassScope in(ctx, OpClass::optimizer);
  for (std::size_t i = 0; i < moments_.size(); ++i) {
    const ParamInfo& info = params_.all()[i];
    ops::adamw(ctx, info.param.value, moments_[i].m, moments_[i].v, info.param.grad,
               {.lr = lr,
                .beta1 = cfg_.beta1,
                .beta2 = cfg_.beta2,
                .eps = cfg_.eps,
                .weight_decay = info.decay ? cfg_.weight_decay : 0,
                .grad_scale = grad_scale,
                .t = t});
  }
}

}  // namespace xlstm
