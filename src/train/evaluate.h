#pragma once
// Loss over a data set: always the same windows in the same order, so that numbers compare between runs.
#include <functional>
#include <optional>
#include <vector>

#include "data/dataset.h"
#include "data/loader.h"
#include "dist/communicator.h"
#include "train/loaded_model.h"

namespace xlstm {

// A model, and memory for one micro-batch of a pass without gradients.
struct ForwardPass {
  Context& ctx;
  const LanguageModel& model;
  const LanguageModel::Saved& saved;
  TokenRows in;
  Tensor losses;  // (rows, 1)

  std::vector<float> run(const TokenBatch& batch) const;  // the losses; batch has in.seq's shape, or fewer sequences
};

struct Evaluation {
  double loss = 0;                       // mean, nats per token
  i64 tokens = 0;                        // scored
  double unigram_entropy = 0;            // loss of a model that knows only how often each of these tokens comes
  double bits_per_byte = 0;              // of the original text; when a table of bytes was given
  std::vector<double> loss_by_position;  // mean at each position of the context
};

struct EvaluationOptions {
  i64 windows = 0;                // only the first so many; 0: all
  std::vector<int> token_bytes;   // of text, by token id (Tokenizer::token_bytes); or empty
  std::function<bool()> stop;     // asked before every batch
  Communicator* ranks = nullptr;  // of several, each computes every size-th batch; all get the same bits as one would
};

// Windows in their order, without shuffling. Nothing if `stop` said yes: fewer windows would give another number.
std::optional<Evaluation> evaluate(const ForwardPass& pass, const Dataset& data, const EvaluationOptions& options);

// The same for a model by itself, `batch` windows of `length` tokens at a time.
std::optional<Evaluation> evaluate(const LoadedModel& loaded, const Dataset& data, i64 length, i64 batch,
                                   const EvaluationOptions& options);

}  // namespace xlstm
