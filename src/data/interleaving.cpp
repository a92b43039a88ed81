#include "data/interleaving.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace xlstm {

Interleaving::Interleaving(const std::vector<double>& weights) {
  constexpr double kParts = 1 / kLeastShare;
  const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
  const bool whole = std::all_of(weights.begin(), weights.end(), [](double w) { return w == std::floor(w); });
  const double parts = whole && sum <= kParts ? 1 : kParts / sum;
  std::uint64_t up_to = 0;
  for (const double w : weights) {
    XL_CHECK(w > 0 && w * parts >= 0.5 && std::isfinite(sum), "a weight of {}, the sum is {}", w, sum);
    sums_.push_back(up_to += static_cast<std::uint64_t>(std::llround(w * parts)));
  }
}

// Of so many sequences of the sets up to this one, those of the sets before it. Products stay below 2^64.
i64 Interleaving::below(std::size_t set, i64 sequences) const {
  const std::uint64_t all = sums_[set], before = sums_[set - 1], n = static_cast<std::uint64_t>(sequences);
  return static_cast<i64>(n / all * before + (n % all * before + all / 2) / all);
}

Interleaving::Place Interleaving::operator()(i64 sequence) const {
  for (std::size_t set = sums_.size() - 1; set > 0; --set) {
    const i64 before = below(set, sequence);
    if (below(set, sequence + 1) == before) return {set, sequence - before};
    sequence = before;
  }
  return {0, sequence};
}

std::vector<i64> Interleaving::counts(i64 sequences) const {
  std::vector<i64> counts(sums_.size());
  for (std::size_t set = sums_.size() - 1; set > 0; --set) {
    const i64 before = below(set, sequences);
    counts[set] = sequences - before;
    sequences = before;
  }
  counts[0] = sequences;
  return counts;
}

}  // namespace xlstm
