// One case per op; what is checked stands in tests/support/op_case.h. The mLSTM cell's tests: mlstm_*_test.cpp.
// Why each case has its `roundings`: docs/numerics.md, "Tolerances of the op table".
#include <gtest/gtest.h>

#include "kernels/ops.h"
#include "tests/reference/dense.h"
#include "tests/support/op_case.h"

namespace xlstm::test {
namespace {

constexpr double kEps = 0.125;  // large enough that an eps in the wrong place shows
constexpr double kCap = 15;
const std::vector<Shape> kOdd = {{1, 1}, {3, 7}, {5, 64}, {2, 1025}};  // rows, columns
const std::vector<Shape> kLarge = {{300, 257}};
const std::vector<Shape> kLong = {{2, 40000}};

TEST(OpTable, Fill) {
  check_op({.shapes = kOdd,
            .large = kLong,
            .tensors = [](Shape s) { return Tensors{saved("y", s[0], s[1])}; },
            .forward = [](Context& ctx, Io& t) { ops::fill(ctx, t["y"], 0.375); },
            .meaning =
                [](auto& t) {
                  for (auto& y : t("y").values) y = 0.375;
                },
            .bf16 = true,
            .roundings = 0});
}

TEST(OpTable, Copy) {
  check_op({.shapes = kOdd,
            .large = kLong,
            .tensors =
                [](Shape s) {
                  return Tensors{input("x", s[0], s[1]), saved("y", s[0], s[1])};
                },
            .forward = [](Context& ctx, Io& t) { ops::copy(ctx, t["y"], t["x"]); },
            .meaning = [](auto& t) { t("y") = t("x"); },
            .bf16 = true,
            .roundings = 0});
}

TEST(OpTable, Add) {
  check_op({.shapes = kOdd,
            .large = kLong,
            .tensors =
                [](Shape s) {
                  return Tensors{input("x", s[0], s[1]), input("z", s[0], s[1]), saved("y", s[0], s[1])};
                },
            .forward = [](Context& ctx, Io& t) { ops::add(ctx, t["y"], t["x"], t["z"]); },
            .meaning = [](auto& t) { t("y") = ref::add(t("x"), t("z")); },
            .bf16 = true,
            .roundings = 1,
            .aliases = {{"y", "x"}, {"y", "z"}}});
}

TEST(OpTable, SoftCap) {
  check_op({.shapes = kOdd,
            .large = kLong,
            .tensors =
                [](Shape s) {
                  return Tensors{input("x", s[0], s[1]).scaled(10), saved("y", s[0], s[1])};
                },
            .forward = [](Context& ctx, Io& t) { ops::soft_cap(ctx, t["y"], t["x"], kCap); },
            .meaning = [](auto& t) { t("y") = ref::soft_cap(t("x"), kCap); },
            .bf16 = true,
            .roundings = 6,
            .aliases = {{"y", "x"}}});
}

TEST(OpTable, Embedding) {
  constexpr i64 kVocab = 11;
  check_op(
      {.shapes = kOdd,
       .large = kLarge,
       .tensors =
           [](Shape s) {
             return Tensors{index("ids", s[0], 0, kVocab), parameter("table", kVocab, s[1]), output("y", s[0], s[1])};
           },
       .forward = [](Context& ctx, Io& t) { ops::embedding_forward(ctx, t["y"], t["ids"], t["table"]); },
       .backward = [](Context& ctx, Io& t) { ops::embedding_backward(ctx, t.d("table"), t.d("y"), t["ids"]); },
       .meaning = [](auto& t) { t("y") = ref::embedding(t("ids"), t("table")); },
       .terms = [](Shape s) { return s[0]; },
       .bf16 = true,
       .roundings = 0});
}

// y is the norm of x; z, if there is one, is x, which goes on as the residual stream.
OpCase rmsnorm_case(bool residual) {
  OpCase op{.shapes = {{1, 1}, {3, 7}, {5, 64}, {2, 1025}, {75, 7}},
            .large = {{300, 257}, {70, 1536}, {37, 2048}, {9, 4096}, {9, 5000}},
            .tensors =
                [=](Shape s) {
                  Tensors tensors{input("x", s[0], s[1]), parameter("w", 1, s[1]).as_stat(), output("y", s[0], s[1]),
                                  saved("rstd", s[0], 1).as_stat()};
                  if (residual) tensors.push_back(output("z", s[0], s[1]));
                  return tensors;
                },
            .forward =
                [=](Context& ctx, Io& t) {
                  ops::rmsnorm_forward(ctx, t["y"], t["rstd"], t["x"], t["w"], kEps);
                  if (residual) ops::copy(ctx, t["z"], t["x"]);
                },
            .backward =
                [=](Context& ctx, Io& t) {
                  ops::rmsnorm_backward(ctx, t.d("x"), t.d("w"), t.d("y"), residual ? t.d("z") : Tensor{}, t["x"],
                                        t["w"], t["rstd"]);
                },
            .meaning =
                [=](auto& t) {
                  t("y") = ref::rmsnorm(t("x"), t("w"), kEps);
                  t("rstd") = ref::rms_rstd(t("x"), kEps);
                  if (residual) t("z") = t("x");
                },
            .terms = [](Shape s) { return std::max(s[0], s[1]); },
            .bf16 = true,
            .roundings = residual ? 17.0 : 16.0,
            .aliases = {{"dx", "dy"}}};
  if (residual) op.aliases.push_back({"dx", "dz"});
  return op;
}

TEST(OpTable, RmsNorm) { check_op(rmsnorm_case(/*residual=*/false)); }
TEST(OpTable, RmsNormResidual) { check_op(rmsnorm_case(/*residual=*/true)); }

TEST(OpTable, RmsNormGates) {
  check_op({.shapes = {{1, 1, 1}, {3, 2, 7}, {5, 4, 64}, {2, 1, 1025}, {43, 2, 7}},  // rows, heads, D
            .large = {{300, 3, 70}, {37, 4, 264}, {21, 17, 2048}, {13, 9, 2056}, {5, 4, 4104}},
            .tensors =
                [](Shape s) {
                  return Tensors{input("x", s[0], s[2]),
                                 parameter("w", 1, s[2]).as_stat(),
                                 parameter("gates", 2 * s[1], s[2]).as_stat(),
                                 output("y", s[0], s[2]),
                                 output("z", s[0], s[2]),
                                 saved("rstd", s[0], 1).as_stat(),
                                 output("pre", s[0], 2 * s[1]).as_stat()};
                },
            .forward =
                [](Context& ctx, Io& t) {
                  ops::rmsnorm_gates_forward(ctx, t["y"], t["rstd"], t["pre"], t["x"], t["w"], t["gates"], kEps);
                  ops::copy(ctx, t["z"], t["x"]);
                },
            .backward =
                [](Context& ctx, Io& t) {
                  ops::rmsnorm_gates_backward(ctx, t.d("x"), t.d("w"), t.d("gates"), t.d("y"), t.d("z"), t.d("pre"),
                                              t["x"], t["w"], t["gates"], t["rstd"]);
                },
            .meaning =
                [](auto& t) {
                  t("y") = ref::rmsnorm(t("x"), t("w"), kEps);
                  t("z") = t("x");
                  t("rstd") = ref::rms_rstd(t("x"), kEps);
                  t("pre") = ref::matmul(t("y"), t("gates"), false, true);
                },
            .terms = [](Shape s) { return std::max(s[0], 2 * s[1] + s[2]); },
            .bf16 = true,
            .roundings = 20});
}

TEST(OpTable, SwiGlu) {
  check_op({.shapes = kOdd,
            .large = {{300, 257}, {3, 2056}},
            .tensors =
                [](Shape s) {
                  return Tensors{input("gate_up", s[0], 2 * s[1]).scaled(3), output("y", s[0], s[1])};
                },
            .forward = [](Context& ctx, Io& t) { ops::swiglu_forward(ctx, t["y"], t["gate_up"]); },
            .backward = [](Context& ctx, Io& t) { ops::swiglu_backward(ctx, t.d("gate_up"), t.d("y"), t["gate_up"]); },
            .meaning = [](auto& t) { t("y") = ref::swiglu(t("gate_up")); },
            .bf16 = true,
            .roundings = 16,
            .aliases = {{"dgate_up", "gate_up"}}});
}

OpCase gates_case(InputGate gate) {
  return {.shapes = {{1, 1}, {3, 7}, {5, 4}, {130, 3}, {2100, 1}},  // rows, heads
          .large = {{5000, 4}},
          .tensors =
              [](Shape s) {
                return Tensors{input("pre", s[0], 2 * s[1]).scaled(4), parameter("bias", 1, 2 * s[1]).scaled(3),
                               index("starts", s[0], 0, 2), output("log_i", s[0], s[1]), output("log_f", s[0], s[1])};
              },
          .forward =
              [=](Context& ctx, Io& t) {
                ops::gates_forward(ctx, {t["log_i"], t["log_f"]}, t["pre"], t["bias"], t["starts"], gate, kCap);
              },
          .backward =
              [=](Context& ctx, Io& t) {
                ops::gates_backward(ctx, t.d("pre"), t.d("bias"), {t.d("log_i"), t.d("log_f")}, t["pre"], t["bias"],
                                    t["starts"], gate, kCap);
              },
          .meaning =
              [=](auto& t) {
                t("log_i") = ref::input_gates(t("pre"), t("bias"), gate, kCap);
                t("log_f") = ref::forget_gates(t("pre"), t("bias"), t("starts"), kCap);
              },
          .terms = [](Shape s) { return s[0]; },
          .roundings = 32};
}

TEST(OpTable, GatesExp) { check_op(gates_case(InputGate::exp)); }
TEST(OpTable, GatesSigmoid) { check_op(gates_case(InputGate::sigmoid)); }

// What stands in `extremes` counts, too: an update has many micro-batches.
TEST(OpTable, GateExtremes) {
  check_op({.shapes = {{1, 1}, {3, 7}, {5, 4}, {130, 3}},  // rows, heads
            .large = {{5000, 4}},
            .tensors =
                [](Shape s) {
                  return Tensors{input("pre", s[0], 2 * s[1]).scaled(4), input("bias", 1, 2 * s[1]).scaled(3),
                                 inout("extremes", 2, 2 * s[1])};
                },
            .forward = [](Context& ctx, Io& t) { ops::gate_extremes(ctx, t["extremes"], t["pre"], t["bias"]); },
            .meaning = [](auto& t) { ref::gate_extremes(t("extremes"), t("pre"), t("bias")); },
            .roundings = 1});
}

void check_head_norm_gate(HeadNorm norm) {
  check_op({.shapes = {{1, 1, 2}, {3, 2, 7}, {5, 3, 64}, {2, 1, 1025}, {43, 2, 7}},  // rows, heads, V
            .large = {{300, 3, 70}, {70, 3, 64}, {70, 1, 1536}},
            .tensors =
                [](Shape s) {
                  const i64 width = s[1] * s[2];
                  return Tensors{input("h", s[0], width).scaled(1, 2), input("o", s[0], width).scaled(2),
                                 parameter("w", 1, width).as_stat(),   output("y", s[0], width),
                                 saved("mean", s[0], s[1]).as_stat(),  saved("rstd", s[0], s[1]).as_stat()};
                },
            .forward =
                [norm](Context& ctx, Io& t) {
                  ops::head_norm_gate_forward(ctx, t["y"], t["mean"], t["rstd"], t["h"], t["o"], t["w"], kEps, norm);
                },
            .backward =
                [norm](Context& ctx, Io& t) {
                  ops::head_norm_gate_backward(ctx, t.d("h"), t.d("o"), t.d("w"), t.d("y"), t["h"], t["o"], t["w"],
                                               t["mean"], t["rstd"], norm);
                },
            .meaning =
                [norm](auto& t) {
                  const i64 heads = t("mean").cols;
                  t("y") = ref::head_norm_gate(t("h"), t("o"), t("w"), heads, kEps, norm);
                  t("mean") = ref::head_mean(t("h"), heads, norm);
                  t("rstd") = ref::head_rstd(t("h"), heads, kEps, norm);
                },
            .terms = [](Shape s) { return std::max(s[0], s[2]); },
            .bf16 = true,
            .roundings = 32,
            .aliases = {{"dh", "dy"}, {"do", "o"}}});
}

TEST(OpTable, HeadNormGate) { check_head_norm_gate(HeadNorm::layernorm); }
TEST(OpTable, HeadNormGateWithoutMean) { check_head_norm_gate(HeadNorm::rmsnorm); }

// Both ops in one case: forward only, and the one with gradients.
TEST(OpTable, CrossEntropy) {
  constexpr double kScale = 0.375;
  check_op(
      {.shapes = {{1, 1}, {3, 7}, {5, 64}, {2, 1025}},  // rows, classes
       .large = {{40, 3001}},
       .tensors =
           [](Shape s) {
             return Tensors{input("z", s[0], s[1]).scaled(4).with_narrow_gradient(), index("targets", s[0], -1, s[1]),
                            output("loss", s[0], 1).with_upstream(kScale).as_stat(),
                            inout("scale", 1, 1).scaled(0, kScale).in_f64(), saved("loss_again", s[0], 1).as_stat()};
           },
       .forward = [](Context& ctx, Io& t) { ops::cross_entropy_forward(ctx, t["loss"], t["z"], t["targets"], kCap); },
       .backward =
           [](Context& ctx, Io& t) {
             ops::cross_entropy(ctx, t["loss_again"], t.d("z"), t["z"], t["targets"], t["scale"], kCap);
           },
       .meaning = [](auto& t) { t("loss") = t("loss_again") = ref::cross_entropy(t("z"), t("targets"), kCap); },
       .terms = [](Shape s) { return s[1]; },
       .bf16 = true,
       .roundings = 36,
       .aliases = {{"dz", "z"}}});
}

TEST(OpTable, Sum) {
  check_op({.shapes = kOdd,
            .large = {{2, 40000}, {300, 257}, {1, 1100000}},
            .tensors =
                [](Shape s) {
                  return Tensors{input("x", s[0], s[1]).scaled(1, 1), saved("out", 1, 1).in_f64()};
                },
            .forward = [](Context& ctx, Io& t) { ops::sum(ctx, t["out"], t["x"]); },
            .meaning =
                [](auto& t) {
                  for (const auto x : t("x").values) t("out")(0, 0) += x;
                },
            .roundings = 0});  // summed in f64, whatever the type
}

TEST(OpTable, SumSquares) {
  check_op({.shapes = {{1, 1}, {1, 1025}, {1, kSumBlock + 3}},
            .large = {{1, 1100000}},
            .tensors =
                [](Shape s) {
                  return Tensors{input("x", 1, s[1]).scaled(1, 1), saved("out", sum_blocks(s[1]), 1).in_f64()};
                },
            .forward = [](Context& ctx, Io& t) { ops::sum_squares(ctx, t["out"], t["x"]); },
            .meaning =
                [](auto& t) {
                  for (i64 i = 0; i < t("x").cols; ++i) t("out")(i / kSumBlock, 0) += t("x")(0, i) * t("x")(0, i);
                },
            .roundings = 0});
}

// `limit`: below and above the norm, and none
TEST(OpTable, Clip) {
  for (const double limit : {0.5, 1e4, 0.0})
    check_op({.shapes = {{1, 1}, {3, 7}, {8, 3000}},  // micro-batches, blocks
              .tensors =
                  [](Shape s) {
                    // norms are up to 50: norm_limit lies on either side
                    return Tensors{inout("scalars", 1, kUpdateScalars).scaled(100).in_f64(),
                                   input("losses", s[0], 1).in_f64(),
                                   input("squares", s[1], 1).made_positive().in_f64()};
                  },
              .forward = [=](Context& ctx, Io& t) { ops::clip(ctx, t["scalars"], t["losses"], t["squares"], limit); },
              .meaning = [=](auto& t) { ref::clip(t("scalars"), t("losses"), t("squares"), limit); },
              .roundings = 0});
}

TEST(OpTable, AdamW) {
  const AdamWConstants constants{.beta1 = 0.9, .beta2 = 0.95, .eps = 1e-3, .weight_decay = 0.1};
  check_op({.shapes = {{1, 1}, {1, 7}, {1, 1025}},
            .large = {{1, 40000}},
            .tensors =
                [](Shape s) {
                  return Tensors{inout("w", 1, s[1]), inout("m", 1, s[1]), inout("v", 1, s[1]).made_positive(),
                                 input("g", 1, s[1]),
                                 // small, so that w is not the difference of larger numbers
                                 input("scalars", 1, kUpdateScalars).scaled(0.005, 0.02).made_positive().in_f64()};
                },
            .forward = [=](Context& ctx,
                           Io& t) { ops::adamw(ctx, t["w"], {}, t["m"], t["v"], t["g"], t["scalars"], constants); },
            .meaning = [=](auto& t) { ref::adamw(t("w"), t("m"), t("v"), t("g"), t("scalars"), constants); },
            .roundings = 8});
}

}  // namespace
}  // namespace xlstm::test
