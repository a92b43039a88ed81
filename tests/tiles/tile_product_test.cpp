// What the op table does not show of AMX's products: the accuracy of f32 from three bf16, and numbers at the limits.
// With emulated tiles in tiles_test, with the processor's in kernels_test.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "core/parallel.h"
#include "core/random.h"
#include "kernels/ops.h"
#include "tests/support/op_case.h"

namespace xlstm::test {
namespace {

class ProductOnTiles : public testing::Test {
 protected:
  void SetUp() override {
    const CpuIsa needed = tiles_are_emulated ? CpuIsa::avx512 : CpuIsa::amx;
    if (!missing_for(needed).empty()) GTEST_SKIP() << missing_for(needed);
  }

  // c (M, N) = a (M, K) b (N, K)^T
  std::vector<float> multiply(CpuIsa isa, std::vector<float>& a, std::vector<float>& b, i64 M, i64 N) {
    std::vector<float> c(static_cast<std::size_t>(M * N));
    const i64 K = static_cast<i64>(a.size()) / M;
    Context ctx{.isa = isa, .scratch = &scratch_};
    ops::matmul(ctx, make_tensor(c.data(), DType::f32, M, N), make_tensor(a.data(), DType::f32, M, K),
                make_tensor(b.data(), DType::f32, N, K), {.transpose_b = true});
    return c;
  }

 private:
  std::byte memory_[1];
  Arena scratch_{"scratch", memory_, 0};
};

std::vector<float> random_floats(i64 n, std::uint64_t which) {
  const RandomStream stream(1, RandomUse::test, which);
  std::vector<float> x(static_cast<std::size_t>(n));
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(stream.block(i)[0]) * 0x1p-31f - 1;
  return x;
}

double rms_error(const std::vector<float>& c, const std::vector<float>& a, const std::vector<float>& b, i64 M, i64 N) {
  const i64 K = static_cast<i64>(a.size()) / M;
  double squares = 0, reference = 0;
  for (i64 m = 0; m < M; ++m)
    for (i64 n = 0; n < N; ++n) {
      double sum = 0;
      for (i64 k = 0; k < K; ++k) sum += double(a[std::size_t(m * K + k)]) * double(b[std::size_t(n * K + k)]);
      squares += std::pow(double(c[std::size_t(m * N + n)]) - sum, 2);
      reference += sum * sum;
    }
  return std::sqrt(squares / reference);
}

TEST_F(ProductOnTiles, F32IsAsExactAsTheLibrarys) {
  for (const i64 K : {32, 256, 1000}) {
    constexpr i64 M = 64, N = 48;
    std::vector<float> a = random_floats(M * K, 1), b = random_floats(N * K, 2);
    const double ours = rms_error(multiply(CpuIsa::amx, a, b, M, N), a, b, M, N);
    const double library = rms_error(multiply(CpuIsa::avx512, a, b, M, N), a, b, M, N);
    EXPECT_LT(ours, library) << K << " terms: " << ours << " against " << library;
    EXPECT_GT(ours, 0);
  }
}

TEST_F(ProductOnTiles, SmallAndLargeElementsMeetExactly) {
  constexpr i64 M = 8, N = 3;
  std::vector<float> a(M), b(N, 1.0f);
  a = {1 + 0x1p-23f, 1 - 0x1p-24f, 0x1.fffffep127f, -0x1.fffffep127f, 0x1p-100f, 0x1.234568p-60f, 0.1f, -1e30f};
  const std::vector<float> c = multiply(CpuIsa::amx, a, b, M, N);
  for (i64 i = 0; i < M * N; ++i) EXPECT_EQ(c[std::size_t(i)], a[std::size_t(i / N)]) << i;
}

TEST_F(ProductOnTiles, WhatIsNotFiniteStaysSo) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  constexpr i64 M = 5, N = 2;
  std::vector<float> a = {kInf, -kInf, std::nanf(""), 0, 2}, b = {1, 3};
  const std::vector<float> c = multiply(CpuIsa::amx, a, b, M, N);
  for (i64 i = 0; i < 3 * N; ++i) EXPECT_FALSE(std::isfinite(c[std::size_t(i)])) << i;
  EXPECT_EQ(c[6], 0);
  EXPECT_EQ(c[9], 6);
}

TEST_F(ProductOnTiles, BitsDoNotDependOnThreads) {
  const int before = max_threads();
  for (const auto& [M, N, K] : {std::tuple<i64, i64, i64>{300, 77, 600}, {70, 600, 130}}) {
    std::vector<float> a = random_floats(M * K, 3), b = random_floats(N * K, 4), first;
    for (const int threads : {1, 2, 3}) {
      set_threads(threads);
      const std::vector<float> c = multiply(CpuIsa::amx, a, b, M, N);
      if (first.empty()) first = c;
      EXPECT_EQ(std::memcmp(first.data(), c.data(), c.size() * sizeof(float)), 0) << M << ", " << threads;
    }
  }
  set_threads(before);
}

}  // namespace
}  // namespace xlstm::test
