// The bits of a product do not depend on the number of threads. Threaded calls of the library do not have that
// property at the first three shapes, with a transposed b.
#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "core/parallel.h"
#include "core/random.h"
#include "kernels/ops.h"

namespace xlstm::test {
namespace {

std::vector<float> random_floats(i64 n, std::uint64_t which) {
  const RandomStream stream(1, RandomUse::test, which);
  std::vector<float> x(static_cast<std::size_t>(n));
  for (i64 i = 0; i < n; i += 4) {
    const auto bits = stream.block(std::uint64_t(i / 4));
    for (i64 k = i; k < std::min(n, i + 4); ++k) x[std::size_t(k)] = float(bits[std::size_t(k - i)]) * 0x1p-31f - 1;
  }
  return x;
}

TEST(Matmul, BitsDoNotDependOnThreads) {
  constexpr MatmulFlags kNN{}, kNT{.transpose_b = true}, kTN{.transpose_a = true, .accumulate = true};
  const struct {
    i64 M, N, K;
    MatmulFlags flags;
  } cases[] = {{512, 512, 2048, kNT}, {1408, 512, 2048, kNT}, {256, 8192, 2048, kNT}, {300, 77, 1000, kNN},
               {300, 77, 1000, kNT},  {1408, 512, 2048, kTN}, {700, 1100, 1030, kTN}, {700, 1100, 1030, kNN},
               {1, 1408, 512, kNT},   {5, 2048, 768, kNT},    {8, 2001, 333, kNT},    {1, 1408, 512, kNN},
               {5, 2048, 768, kTN},   {17, 515, 129, kNT},    {256, 256, 2048, kTN},  {256, 256, 2048, kNT},
               {100, 200, 3000, kNT}, {64, 64, 4096, kTN}};
  const int before = max_threads();
  for (const auto& [M, N, K, flags] : cases) {
    const bool ta = flags.transpose_a, tb = flags.transpose_b;
    std::vector<float> a = random_floats(M * K, 1), b = random_floats(K * N, 2);
    const Tensor left = make_tensor(a.data(), DType::f32, ta ? K : M, ta ? M : K);
    const Tensor right = make_tensor(b.data(), DType::f32, tb ? N : K, tb ? K : N);
    std::vector<float> first;
    for (int threads : {1, 2, 3}) {
      std::vector<float> c(static_cast<std::size_t>(M * N), 1.0f);
      std::byte memory[1];
      Arena scratch("scratch", memory, 0);
      Context ctx{.isa = best_cpu_isa(), .scratch = &scratch};
      set_threads(threads);
      ops::matmul(ctx, make_tensor(c.data(), DType::f32, M, N), left, right, flags);
      set_threads(before);
      if (first.empty()) first = c;
      EXPECT_EQ(std::memcmp(first.data(), c.data(), c.size() * sizeof(float)), 0)
          << M << ", " << N << ", " << K << (ta ? " transposed a" : "") << (tb ? " transposed b" : "") << ", "
          << threads;
    }
  }
}

TEST(Matmul, CountsItsOperations) {
  std::vector<float> a(6), b(8), c(12);
  std::byte memory[1];
  Arena scratch("scratch", memory, 0);
  Profile profile;
  Context ctx{.scratch = &scratch, .profile = &profile, .op_class = OpClass::ffn};
  ops::matmul(ctx, make_tensor(c.data(), DType::f32, 3, 4), make_tensor(a.data(), DType::f32, 3, 2),
              make_tensor(b.data(), DType::f32, 2, 4), {});
  const Profile::Entry& entry = profile.classes[static_cast<std::size_t>(OpClass::ffn)];
  EXPECT_EQ(entry.flops, 2 * 3 * 4 * 2);
  EXPECT_EQ(entry.calls, 1);
}

TEST(Matmul, RefusesShapesThatDoNotFit) {
  std::vector<float> a(6), b(8), c(12);
  std::byte memory[1];
  Arena scratch("scratch", memory, 0);
  Context ctx{.scratch = &scratch};
  EXPECT_THROW(ops::matmul(ctx, make_tensor(c.data(), DType::f32, 3, 4), make_tensor(a.data(), DType::f32, 2, 3),
                           make_tensor(b.data(), DType::f32, 2, 4), {}),
               Error);
}

}  // namespace
}  // namespace xlstm::test
