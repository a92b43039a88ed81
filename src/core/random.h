#pragma once
// Counter-based random numbers (Philox 4x32-10, Salmon et al. 2011): the bits depend on what they are for, never on
// the rank, the thread or the order of calls. The same bits on host and device.
#include <array>
#include <cmath>
#include <cstdint>

namespace xlstm {

// What a stream is for. Values are part of the exactness contract: never renumber.
enum class RandomUse : std::uint32_t {
  init = 1,
  data_order = 2,
  sampling = 3,
  test = 4,
  bench = 5,
  validation_split = 6,
  tokenizer_sample = 7
};

inline std::array<std::uint32_t, 4> philox(std::array<std::uint32_t, 4> counter, std::array<std::uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t p0 = std::uint64_t{0xD2511F53u} * counter[0];
    const std::uint64_t p1 = std::uint64_t{0xCD9E8D57u} * counter[2];
    counter = {static_cast<std::uint32_t>(p1 >> 32) ^ counter[1] ^ key[0], static_cast<std::uint32_t>(p1),
               static_cast<std::uint32_t>(p0 >> 32) ^ counter[3] ^ key[1], static_cast<std::uint32_t>(p0)};
    key[0] += 0x9E3779B9u;
    key[1] += 0xBB67AE85u;
  }
  return counter;
}

// A stream of numbers named by (seed, use, which); element(i) can be asked for in any order.
class RandomStream {
 public:
  RandomStream(std::uint64_t seed, RandomUse use, std::uint64_t which = 0)
      : key_{static_cast<std::uint32_t>(seed),
             static_cast<std::uint32_t>(seed >> 32) ^ (static_cast<std::uint32_t>(use) * 0x85EBCA6Bu)},
        which_(which) {}

  std::array<std::uint32_t, 4> block(std::uint64_t i) const {
    return philox({static_cast<std::uint32_t>(i), static_cast<std::uint32_t>(i >> 32),
                   static_cast<std::uint32_t>(which_), static_cast<std::uint32_t>(which_ >> 32)},
                  key_);
  }
  std::uint32_t bits(std::uint64_t i) const { return block(i / 4)[i % 4]; }
  double uniform(std::uint64_t i) const { return (bits(i) + 0.5) * 0x1p-32; }  // in (0, 1)

  // Four standard normal numbers, elements 4 i to 4 i + 3, by Box and Muller.
  std::array<double, 4> normals(std::uint64_t i) const {
    constexpr double kTwoPi = 6.283185307179586;
    const auto b = block(i);
    std::array<double, 4> out;
    for (std::size_t pair = 0; pair < 4; pair += 2) {
      const double radius = std::sqrt(-2 * std::log((b[pair] + 0.5) * 0x1p-32));
      const double angle = kTwoPi * ((b[pair + 1] + 0.5) * 0x1p-32);
      out[pair] = radius * std::cos(angle);
      out[pair + 1] = radius * std::sin(angle);
    }
    return out;
  }
  double normal(std::uint64_t i) const { return normals(i / 4)[i % 4]; }

 private:
  std::array<std::uint32_t, 2> key_;
  std::uint64_t which_;
};

}  // namespace xlstm
