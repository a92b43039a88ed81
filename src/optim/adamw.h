#pragma once
// AdamW with decoupled weight decay on the parameters that ask for it (spec §6.2, §8.1). Moments are f32, whole.
#include <vector>

#include "core/params.h"
#include "kernels/ops.h"

namespace xlstm {

struct OptimizerConfig {
  double lr = 1e-3;  // the schedule's peak
  double beta1 = 0.9, beta2 = 0.95, eps = 1e-8;
  double weight_decay = 0.1;
  double clip = 0.5;  // largest global gradient norm; 0 = no clipping

  void check() const;  // UserError naming the key
};
void visit(auto& v, OptimizerConfig& c) {
  v("lr", c.lr);
  v("beta1", c.beta1);
  v("beta2", c.beta2);
  v("eps", c.eps);
  v("weight_decay", c.weight_decay);
  v("clip", c.clip);
}

class AdamW {
 public:
  struct Moments {
    Tensor m, v;
  };

  AdamW(const OptimizerConfig& cfg, const ParamStore& params, Arena& state);

  // Update number t, from 1; gradients are scaled by grad_scale first.
  void step(Context& ctx, double lr, double grad_scale, i64 t) const;

  const std::vector<Moments>& moments() const { return moments_; }  // in the order of params.all()

 private:
  OptimizerConfig cfg_;
  const ParamStore& params_;
  std::vector<Moments> moments_;
};

}  // namespace xlstm
