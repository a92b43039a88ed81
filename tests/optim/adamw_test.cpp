// AdamW over a list of parameters, against the textbook; clipping, and the update that is skipped.
#include "optim/adamw.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "core/memory.h"

namespace xlstm {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();

struct Rig {
  Buffer memory{1 << 20};
  Arena values{"v", memory.data(), 1 << 16}, grads{"g", memory.data() + (1 << 16), 1 << 16},
      state{"s", memory.data() + (1 << 17), 1 << 17}, scratch{"x", memory.data() + (1 << 18), 1 << 16};
  Context ctx{.isa = best_cpu_isa(), .scratch = &scratch};
  ParamStore params{values, grads, DType::f32};
  Tensor scalars = scratch.alloc("scalars", DType::f64, 1, kUpdateScalars);

  double& scalar(UpdateScalar s) { return scalars.row<double>()[static_cast<int>(s)]; }
  void step(const AdamW& adamw, double lr, i64 t, double grad_scale, bool applied = true) {
    upload(ctx, scalars, adamw.scalars(lr, t, 1).data());
    scalar(UpdateScalar::grad_scale) = grad_scale;
    scalar(UpdateScalar::applied) = applied;
    adamw.step(ctx, scalars);
  }
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
    rig.step(adamw, 0.1 / t, t, 0.5);
  }
  for (int i = 0; i < 5; ++i)
    EXPECT_NEAR(static_cast<double>((i < 3 ? dense.value : bias.value).row<float>()[i < 3 ? i : i - 3]), w[i], 2e-6)
        << i;
}

TEST(AdamW, AnUpdateThatIsNotAppliedChangesNothing) {
  Rig rig;
  const Param w = rig.params.add("w", 1, 3, Init::zeros(), true);
  const AdamW adamw({}, rig.params, rig.state);
  for (int i = 0; i < 3; ++i) w.value.row<float>()[i] = w.grad.row<float>()[i] = 1;
  rig.step(adamw, 0.1, 1, 1, /*applied=*/false);
  EXPECT_EQ(w.value.row<float>()[0], 1);
  EXPECT_EQ(adamw.flat().m.row<float>()[0], 0);
  rig.step(adamw, 0.1, 1, 1);
  EXPECT_LT(w.value.row<float>()[0], 1);
}

// What is not finite, or of a norm beyond its limit, is not applied, wherever it comes from; a clip of 0 is none.
TEST(Clip, FiniteAndWithinTheLimitOrNotApplied) {
  Rig rig;
  const Tensor losses = rig.state.alloc("losses", DType::f64, 2, 1), squares = rig.state.alloc("s", DType::f64, 2, 1);
  const auto clip = [&](double loss, double square, double limit, double norm_limit = kInf) {
    *losses.row<double>(0) = loss, *losses.row<double>(1) = 1;
    *squares.row<double>(0) = square, *squares.row<double>(1) = 9;
    rig.scalar(UpdateScalar::inverse_tokens) = 0.5;
    rig.scalar(UpdateScalar::norm_limit) = norm_limit;
    ops::clip(rig.ctx, rig.scalars, losses, squares, limit);
    return rig.scalar(UpdateScalar::applied) != 0;
  };
  EXPECT_TRUE(clip(3, 16, 0.5));
  EXPECT_EQ(rig.scalar(UpdateScalar::loss), 2);
  EXPECT_EQ(rig.scalar(UpdateScalar::grad_norm), 5);
  EXPECT_DOUBLE_EQ(rig.scalar(UpdateScalar::grad_scale), 0.1);
  EXPECT_TRUE(clip(3, 16, 8));
  EXPECT_EQ(rig.scalar(UpdateScalar::grad_scale), 1);
  EXPECT_TRUE(clip(3, 16, 0));
  EXPECT_EQ(rig.scalar(UpdateScalar::grad_scale), 1);
  EXPECT_FALSE(clip(kInf, 16, 1));
  EXPECT_FALSE(clip(std::nan(""), 16, 1));
  EXPECT_FALSE(clip(3, kInf, 1));
  EXPECT_FALSE(clip(3, std::nan(""), 1));
  EXPECT_TRUE(clip(3, 16, 1, 5));
  EXPECT_FALSE(clip(3, 16, 1, std::nextafter(5, 0)));
}

}  // namespace
}  // namespace xlstm
