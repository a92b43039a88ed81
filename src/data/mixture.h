#pragma once
// The data sets of a run, of one tokenizer, and how their sequences alternate (docs/data.md, "Mixtures"). One set alone
// is a mixture, too.
#include "data/loader.h"

namespace xlstm {

struct MixedSet {
  std::string name;
  double weight;  // relative to the others'
  Dataset data;
};

class Mixture {
 public:
  explicit Mixture(std::vector<MixedSet> sets);  // at least one

  const std::vector<MixedSet>& sets() const { return sets_; }
  // Of one set, its own; of several, a sha256 over theirs and the weights, in their order.
  std::string fingerprint() const;
  const std::string& tokenizer_sha256() const { return sets_.front().data.tokenizer_sha256(); }
  fs::path tokenizer_path() const { return sets_.front().data.tokenizer_path(); }

  // The mixture must outlive it. UserError as Sequences.
  SequenceSource sequences(i64 context_length, Packing packing) const;
  // Of each set, among the first so many of the run.
  std::vector<i64> counts(i64 sequences) const { return order_.counts(sequences); }

 private:
  std::vector<MixedSet> sets_;
  Interleaving order_;
};

}  // namespace xlstm
