#pragma once
// The next token from logits: temperature, then top-k, then top-p.
#include <cstdint>
#include <vector>

#include "core/config.h"
#include "core/random.h"

namespace xlstm {

struct SamplingConfig {
  double temperature = 1;  // 0: always the most likely token
  i64 top_k = 0;           // 0: all
  double top_p = 1;        // 1: all
  std::uint64_t seed = 1;

  void check() const;  // UserError naming the option
};

class Sampler {
 public:
  Sampler(const SamplingConfig& cfg, std::vector<int> ids);  // ids: the tokens that may be drawn, at least one

  // Deterministic in (seed, sequence, position). logits: by token id.
  int sample(const float* logits, std::uint64_t sequence, std::uint64_t position);

 private:
  SamplingConfig cfg_;
  std::vector<int> ids_;
  std::vector<std::pair<float, int>> order_;  // logit and id; sorted as far as was asked for
};

}  // namespace xlstm
