#pragma once
// The order in which a run reads a set of sequences: every epoch visits each once, in the order of a keyed permutation.
// Nothing is stored: which one is number s of the run is a function of (seed, s) alone, so the whole state of the order
// is s.
#include <algorithm>
#include <bit>

#include "core/random.h"
#include "core/tensor.h"

namespace xlstm {

// A bijection of [0, n): a Feistel network over the next larger even power of two, walked until it falls below n.
class Permutation {
 public:
  // `set`: below 2^24; those of a mixture are shuffled apart.
  Permutation(std::uint64_t seed, std::uint64_t epoch, i64 n, std::uint64_t set = 0)
      : random_(seed, RandomUse::data_order, epoch), n_(static_cast<std::uint64_t>(n)), set_(set) {
    XL_CHECK(n > 0, "a permutation of {} elements", n);
    half_bits_ = std::max(1, (static_cast<int>(std::bit_width(n_ - 1)) + 1) / 2);
  }

  i64 operator()(i64 i) const {
    auto x = static_cast<std::uint64_t>(i);
    do x = feistel(x);
    while (x >= n_);
    return static_cast<i64>(x);
  }

 private:
  static constexpr std::uint64_t kRounds = 8;

  std::uint64_t feistel(std::uint64_t x) const {
    const std::uint64_t mask = (std::uint64_t{1} << half_bits_) - 1;
    std::uint64_t left = x >> half_bits_, right = x & mask;
    for (std::uint64_t round = 0; round < kRounds; ++round) {
      const std::uint64_t mixed = left ^ (random_.block(set_ << 40 | round << 32 | right)[0] & mask);
      left = right;
      right = mixed;
    }
    return left << half_bits_ | right;
  }

  RandomStream random_;
  std::uint64_t n_, set_;
  int half_bits_;  // at most 32, as n < 2^63
};

// Windows of a stream: window w holds the tokens [w T, w T + T], the first T of them inputs, the last T targets.
struct Windows {
  i64 tokens, context_length;
  i64 count() const { return tokens > context_length ? (tokens - 1) / context_length : 0; }
  i64 first_token(i64 window) const { return window * context_length; }
};

// Which of a set's `count` sequences is its number `sequence` (from 0, through all of its epochs) of a run.
inline i64 shuffled(std::uint64_t seed, i64 sequence, i64 count, std::uint64_t set = 0) {
  return Permutation(seed, static_cast<std::uint64_t>(sequence / count), count, set)(sequence % count);
}

}  // namespace xlstm
