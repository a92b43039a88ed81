// AdamW and clipping over a list of parameters, against the textbook.
#include "optim/adamw.h"

#include <gtest/gtest.h>

#include <cmath>

#include "core/memory.h"
#include "optim/clip.h"

namespace xlstm {
namespace {

struct Rig {
  Buffer memory{1 << 20};
  Arena values{"v", memory.data(), 1 << 16}, grads{"g", memory.data() + (1 << 16), 1 << 16},
      state{"s", memory.data() + (1 << 17), 1 << 17}, scratch{"x", memory.data() + (1 << 18), 1 << 16};
  Context ctx{.isa = best_cpu_isa(), .scratch = &scratch};
  ParamStore params{values, grads, DType::f32};
};

TEST(AdamW, ThreeStepsByHand) {
  Rig rig;
  const Param dense = rig.params.add("w", 1, 3, Init::zeros(), /*decay=*/true);
  const Param bias = rig.params.add("b", 1, 2, Init::zeros(), /*decay=*/false);
  const OptimizerConfig cfg{.beta1 = 0.8, .beta2 = 0.9, .eps = 1e-3, .weight_decay = 0.5};
  const AdamW adamw(cfg, rig.params, rig.state);

  std::vector<double> w{1, -2, 0.5, 3, -1}, m(5, 0), v(5, 0);
  for (int i = 0; i < 5; ++i)
    (i < 3 ? dense.value : bias.value).row<float>()[i < 3 ? i : i - 3] = static_cast<float>(w[i]);
  for (int t = 1; t <= 3; ++t) {
    for (int i = 0; i < 5; ++i) {
      const double g = 0.3 * (i + 1) - 0.4 * t, scaled = 0.5 * g, lr = 0.1 / t;
      (i < 3 ? dense.grad : bias.grad).row<float>()[i < 3 ? i : i - 3] = static_cast<float>(g);
      m[i] = 0.8 * m[i] + 0.2 * scaled;
      v[i] = 0.9 * v[i] + 0.1 * scaled * scaled;
      const double step = m[i] / (1 - std::pow(0.8, t)) / (std::sqrt(v[i] / (1 - std::pow(0.9, t))) + 1e-3);
      w[i] -= lr * (step + (i < 3 ? 0.5 * w[i] : 0));
    }
    adamw.step(rig.ctx, 0.1 / t, 0.5, t);
  }
  for (int i = 0; i < 5; ++i)
    EXPECT_NEAR(static_cast<double>((i < 3 ? dense.value : bias.value).row<float>()[i < 3 ? i : i - 3]), w[i], 2e-6)
        << i;
}

TEST(Clip, NormOverAllParametersAndItsScale) {
  Rig rig;
  const Param a = rig.params.add("a", 2, 2, Init::zeros(), true), b = rig.params.add("b", 1, 1, Init::zeros(), true);
  for (int i = 0; i < 4; ++i) a.grad.row<float>()[i] = 2;
  *b.grad.row<float>() = 3;
  const Tensor sums = rig.state.alloc("sums", DType::f64, 2, 1);
  EXPECT_DOUBLE_EQ(gradient_norm(rig.ctx, rig.params, sums), 5);
  EXPECT_DOUBLE_EQ(clip_scale(5, 0.5), 0.1);
  EXPECT_DOUBLE_EQ(clip_scale(0.25, 0.5), 1);
  EXPECT_DOUBLE_EQ(clip_scale(5, 0), 1);
}

}  // namespace
}  // namespace xlstm
