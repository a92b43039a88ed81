#pragma once
// AdamW with decoupled weight decay on the parameters that ask for it (spec §6.2, §8.1). Moments are f32, whole.
#include <array>
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

  // What the host writes into the scalars of update number t, which counts from 1.
  std::array<double, kUpdateScalars> scalars(double lr, i64 t, double inverse_tokens) const;
  // One update with those scalars, once ops::clip has completed them.
  void step(Context& ctx, Tensor scalars) const;

  const std::vector<Moments>& moments() const { return moments_; }  // in the order of params.all()

 private:
  OptimizerConfig cfg_;
  const ParamStore& params_;
  Moments flat_;
  std::vector<Moments> moments_;
};

}  // namespace xlstm
