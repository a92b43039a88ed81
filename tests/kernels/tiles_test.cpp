// The processor's tiles against the emulated ones, which the products' tests take for them.
#if defined(__x86_64__)
#include "kernels/cpu/tiles.h"

#include <gtest/gtest.h>

#include <vector>

#include "core/cpu_isa.h"
#include "core/random.h"
#include "tests/support/emulated_tiles.h"

namespace xlstm::test {
namespace {

struct Operands {
  std::vector<bf16> a, b;  // (16, 32)
  std::vector<float> c;    // (16, 16)
};

// Of sizes from 2^-31 to 2^32, or with `special` also zeros, denormals, infinities and NaN.
Operands operands(bool special) {
  const RandomStream stream(1, RandomUse::test, special ? 11 : 10);
  Operands x{std::vector<bf16>(512), std::vector<bf16>(512), std::vector<float>(256)};
  constexpr float kSpecial[] = {0.0f, -0.0f, 0x1p-130f, -0x1p-127f, HUGE_VALF, -HUGE_VALF, NAN};
  const auto number = [&](std::uint64_t i) {
    const auto bits = stream.block(i);
    if (special && bits[0] % 64 < std::size(kSpecial)) return kSpecial[bits[0] % 64];
    return std::ldexp(static_cast<float>(bits[1]) * 0x1p-31f - 1, static_cast<int>(bits[2] % 64) - 31);
  };
  for (std::size_t i = 0; i < 512; ++i) x.a[i] = to_bf16(number(i)), x.b[i] = to_bf16(number(512 + i));
  for (std::size_t i = 0; i < 256; ++i) x.c[i] = number(1024 + i);
  return x;
}

template <class Tiles>
std::vector<float> product(const Operands& x) {
  std::vector<float> c(256);
  const Tiles tiles;
  tiles.template load<0>(x.c.data(), 64);
  tiles.template load<4>(x.a.data(), 64);
  tiles.template load<6>(x.b.data(), 64);
  tiles.template multiply<0, 4, 6>();
  tiles.template store<0>(c.data(), 64);
  return c;
}

TEST(Tiles, TheProcessorsAreAsTheEmulated) {
  for (const bool special : {false, true}) {
    const Operands x = operands(special);
    const std::vector<float> want = product<EmulatedTiles>(x);
    EXPECT_TRUE(special || std::isfinite(want[0]));
    if (const std::string missing = missing_for(CpuIsa::amx); !missing.empty()) GTEST_SKIP() << missing;
    const std::vector<float> got = product<HardwareTiles>(x);
    for (std::size_t i = 0; i < got.size(); ++i)
      EXPECT_TRUE(std::memcmp(&got[i], &want[i], 4) == 0 || (std::isnan(got[i]) && std::isnan(want[i])))
          << i << ": " << got[i] << ", emulated " << want[i];
  }
}

}  // namespace
}  // namespace xlstm::test
#endif
