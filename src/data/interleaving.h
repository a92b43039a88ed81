#pragma once
// How the sequences of several sets alternate, by weights. Nothing is stored: which set sequence number n comes from,
// and how many came from each before it, are functions of n alone, in whole numbers.
#include <vector>

#include "core/tensor.h"

namespace xlstm {

// Sets 0, ..., k together have, of m sequences of sets 0, ..., k + 1, the rounded share m W_k / W_(k+1), where W_k is
// the sum of the weights up to k. So among the first n sequences, whatever n, each of K sets has its share to within
// K / 2 sequences, and at two sets to within a half.
class Interleaving {
 public:
  struct Place {
    std::size_t set;
    i64 number;  // of the sequence among those of its set, from 0
  };

  // Positive weights with a finite sum, none below 2^-31 of it: whole numbers as they are, others to 2^-31 of the sum.
  explicit Interleaving(const std::vector<double>& weights);

  // The least share that a weight may have.
  static constexpr double kLeastShare = 0x1p-31;

  Place operator()(i64 sequence) const;
  std::vector<i64> counts(i64 sequences) const;  // of each set, among the first so many

 private:
  i64 below(std::size_t set, i64 sequences) const;

  std::vector<std::uint64_t> sums_;  // of the weights up to each set's, at most about 2^31
};

}  // namespace xlstm
