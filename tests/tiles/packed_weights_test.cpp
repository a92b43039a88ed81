// Products with weights that stay packed for AMX's tiles between updates: the bits are those without.
#include "kernels/packed_weights.h"

#include <gtest/gtest.h>

#include "core/random.h"
#include "kernels/ops.h"
#include "tests/support/op_case.h"

namespace xlstm::test {
namespace {

class PackedWeightsTest : public testing::Test {
 protected:
  static constexpr i64 kRows = 96, kCols = 64, kTokens = 80;

  void SetUp() override {
    const CpuIsa needed = tiles_are_emulated ? CpuIsa::avx512 : CpuIsa::amx;
    if (!missing_for(needed).empty()) GTEST_SKIP() << missing_for(needed);
    fill(weights_, 1);
    fill(x_, 2);
  }

  static void fill(std::vector<bf16>& values, std::uint64_t which) {
    const RandomStream random(7, RandomUse::test, which);
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = to_bf16(static_cast<float>(random.normal(i)));
  }
  Tensor row() { return make_tensor(weights_.data(), DType::bf16, 1, 2 * kRows * kCols); }
  // Of the two matrices that the row holds
  Tensor matrix(i64 which, i64 rows = kRows) {
    return make_tensor(weights_.data() + which * kRows * kCols, DType::bf16, rows, kCols);
  }

  // x w^T, or with as many columns of x as w has rows, x w
  std::vector<float> multiply(Tensor w, bool transposed, PackedWeights* packed) {
    const i64 terms = transposed ? w.cols : w.rows, cols = transposed ? w.rows : w.cols;
    std::vector<float> c(static_cast<std::size_t>(kTokens * cols));
    Context ctx{.isa = CpuIsa::amx, .scratch = &scratch_, .packed = packed};
    ops::matmul(ctx, make_tensor(c.data(), DType::f32, kTokens, cols),
                make_tensor(x_.data(), DType::bf16, kTokens, terms), w, {.transpose_b = transposed});
    return c;
  }

  std::vector<bf16> weights_ = std::vector<bf16>(2 * kRows * kCols), x_ = std::vector<bf16>(kTokens * kRows);
  std::vector<std::byte> memory_ = std::vector<std::byte>(1 << 17);
  std::byte byte_[1];
  Arena arena_{"packed", memory_.data(), static_cast<i64>(memory_.size())}, scratch_{"scratch", byte_, 0};
};

TEST_F(PackedWeightsTest, BitsAreThoseWithoutThem) {
  PackedWeights packed(arena_, row());
  for (int again = 0; again < 2; ++again)
    for (const i64 which : {0, 1})
      for (const bool transposed : {true, false})
        EXPECT_EQ(multiply(matrix(which), transposed, &packed), multiply(matrix(which), transposed, nullptr));
}

TEST_F(PackedWeightsTest, AreThoseOfTheLastUpdateOnceTheyAreForgotten) {
  PackedWeights packed(arena_, row());
  const std::vector<float> before = multiply(matrix(0), true, &packed);
  fill(weights_, 3);
  EXPECT_EQ(multiply(matrix(0), true, &packed), before);  // or nothing would be gained
  Context ctx{.scratch = &scratch_, .packed = &packed};
  weights_changed(ctx);
  EXPECT_EQ(multiply(matrix(0), true, &packed), multiply(matrix(0), true, nullptr));
  EXPECT_NE(multiply(matrix(0), true, &packed), before);
}

// What has no place is multiplied as it lies.
TEST_F(PackedWeightsTest, OtherMatricesHaveNone) {
  PackedWeights packed(arena_, row()), none;
  EXPECT_EQ(none.take(matrix(0)).words, nullptr);
  EXPECT_EQ(packed.take(make_tensor(x_.data(), DType::bf16, 32, 32)).words, nullptr);
  EXPECT_EQ(packed.take(matrix(0, 40)).words, nullptr);  // not whole panels
  EXPECT_NE(packed.take(matrix(0)).words, nullptr);
  EXPECT_EQ(packed.take(matrix(0, 64)).words, nullptr);  // part of the one that is there
  EXPECT_EQ(multiply(matrix(0, 64), true, &packed), multiply(matrix(0, 64), true, nullptr));
}

}  // namespace
}  // namespace xlstm::test
