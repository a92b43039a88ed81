#pragma once
// AdamW with decoupled weight decay on the parameters that ask for it (spec §6.2, §8.1). Moments are f32. An optimizer
// may have part of the parameters only: then it keeps the moments of that part, and updates that part.
#include <array>
#include <limits>
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

  // Of the row of parameters (core/params.h). `at`: where its moments begin in m and v.
  struct Part {
    i64 begin, end, at;
  };

  AdamW(const OptimizerConfig& cfg, const ParamStore& params, Arena& state);
  // `parts`: one behind the other in m and v. `masters`: where they lie, likewise, if not with the parameters.
  AdamW(const OptimizerConfig& cfg, const ParamStore& params, std::vector<Part> parts, Arena& state,
        Tensor masters = {});

  // What the host writes into the scalars of update number t, which counts from 1. A gradient norm beyond `norm_limit`
  // is not applied.
  std::array<double, kUpdateScalars> scalars(double lr, i64 t, double inverse_tokens,
                                             double norm_limit = std::numeric_limits<double>::infinity()) const;
  // One update with those scalars, once ops::clip has completed them.
  void step(Context& ctx, Tensor scalars) const;

  // Of all its parts, (1, n) each.
  const Moments& flat() const { return flat_; }

 private:
  OptimizerConfig cfg_;
  const ParamStore& params_;
  std::vector<Part> parts_;
  Moments flat_;
  Tensor masters_;
};

}  // namespace xlstm
