// The matrix products of the op table. What is checked stands in tests/support/op_case.h.
#include <gtest/gtest.h>

#include "kernels/ops.h"
#include "tests/reference/dense.h"
#include "tests/support/op_case.h"

namespace xlstm::test {
namespace {

// f32_result: of bf16, too
OpCase matmul_case(MatmulFlags flags, bool f32_result = false) {
  return {.shapes = {{1, 1, 1}, {3, 7, 5}, {64, 5, 33}, {2, 17, 1025}, {4, 70, 20}, {5, 33, 64}},  // M, N, K
          .large = {{300, 530, 70}, {130, 40, 1100}},
          .tensors =
              [=](Shape s) {
                const i64 M = s[0], N = s[1], K = s[2];
                TensorSpec c = flags.accumulate ? inout("c", M, N) : saved("c", M, N);
                c.stat = f32_result;
                return Tensors{c, flags.transpose_a ? input("a", K, M) : input("a", M, K),
                               flags.transpose_b ? input("b", N, K) : input("b", K, N)};
              },
          .forward = [=](Context& ctx, Io& t) { ops::matmul(ctx, t["c"], t["a"], t["b"], flags); },
          .meaning =
              [=](auto& t) {
                const auto product = ref::matmul(t("a"), t("b"), flags.transpose_a, flags.transpose_b);
                t("c") = flags.accumulate ? ref::add(t("c"), product) : product;
              },
          .terms = [](Shape s) { return s[2]; },
          .bf16 = true,
          .roundings = 2};
}

TEST(OpTable, Matmul) {
  for (bool transpose_a : {false, true})
    for (bool transpose_b : {false, true})
      for (bool accumulate : {false, true}) {
        SCOPED_TRACE(
            fmt::format("transpose_a {}, transpose_b {}, accumulate {}", transpose_a, transpose_b, accumulate));
        for (bool f32_result : {false, true}) check_op(matmul_case({transpose_a, transpose_b, accumulate}, f32_result));
      }
}

TEST(OpTable, MatmulAdd) {
  for (const MatmulFlags flags : {MatmulFlags{}, MatmulFlags{.transpose_b = true}}) {
    SCOPED_TRACE(fmt::format("transpose_b {}", flags.transpose_b));
    OpCase op = matmul_case(flags);
    op.tensors = [=](Shape s) {
      Tensors tensors = matmul_case(flags).tensors(s);
      tensors.push_back(input("z", s[0], s[1]));
      return tensors;
    };
    op.forward = [=](Context& ctx, Io& t) { ops::matmul_add(ctx, t["c"], t["z"], t["a"], t["b"], flags); };
    op.meaning = [=](auto& t) {
      t("c") = ref::add(t("z"), ref::matmul(t("a"), t("b"), flags.transpose_a, flags.transpose_b));
    };
    op.roundings = 3;
    check_op(op);
  }
}

}  // namespace
}  // namespace xlstm::test
