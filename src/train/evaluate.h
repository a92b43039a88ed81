#pragma once
// Loss over a data set: always the same windows in the same order, so that numbers compare between runs.
#include <vector>

#include "data/dataset.h"
#include "data/loader.h"
#include "model/language_model.h"

namespace xlstm {

// A model, and memory for one micro-batch of a pass without gradients.
struct ForwardPass {
  Context& ctx;
  const LanguageModel& model;
  const LanguageModel::Saved& saved;
  TokenRows in;
  Tensor losses;  // (rows, 1)

  void run(const TokenBatch& batch) const;  // batch has in.seq's shape
};

struct Evaluation {
  double loss = 0;                       // mean, nats per token
  i64 tokens = 0;                        // scored
  double unigram_entropy = 0;            // loss of a model that knows only how often each of these tokens comes
  i64 token_bytes = 0;                   // of text that they stand for; when a table of bytes was given
  std::vector<double> loss_by_position;  // mean at each position of the context
};

// The first `windows` windows of the data set (0 = all), without shuffling. `token_bytes`: bytes per token id, or
// empty.
Evaluation evaluate(const ForwardPass& pass, const Dataset& data, i64 windows,
                    const std::vector<int>& token_bytes = {});

}  // namespace xlstm
