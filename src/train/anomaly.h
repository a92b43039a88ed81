#pragma once
// Evidence of an update that the guard has skipped: RUN/anomalies/step_00000012/
//   anomaly.json        what was seen: loss, norms, gate extremes, config; sealed with a checksum
//   batch.safetensors   the tokens of the update: ids, targets, starts, (sequences, length) i32
//   text.jsonl          what they say: number and text of each sequence
// and RUN/anomalies/weights/step_00000011/, a checkpoint of the weights alone that made it, shared by all updates that
// were skipped in a row. A folder step_... is whole, or not there.
#include "data/loader.h"
#include "data/tokenizer.h"
#include "train/gradient_norms.h"
#include "train/guard.h"

namespace xlstm {

struct Anomaly {
  i64 step = 0, update = 0;
  SkipReason reason = SkipReason::none;
  double loss = 0, grad_norm = 0, norm_limit = 0, lr = 0;
  i64 scored = 0;                   // tokens
  i64 rollbacks = 0;                // before it
  std::string weights;              // folder in anomalies/weights
  std::vector<NamedNorm> norms;     // of every parameter
  std::vector<GateExtremes> gates;  // of every block
  std::string computed_on;          // device, or instruction set
  int ranks = 1;
  std::string config;           // YAML
  std::string data, tokenizer;  // fingerprints
  TokenBatch batch;             // the whole update's

  std::string name() const { return name_in_timeline(step, rollbacks); }
};

// Into an empty folder that is there. `tokenizer` may be null: then there is no text. UserError.
void write_anomaly(const fs::path& folder, const Anomaly& anomaly, const Tokenizer* tokenizer);
// UserError naming the file that is missing, damaged or none of ours.
Anomaly read_anomaly(const fs::path& folder);

// Removes evidence beyond the newest `keep` rows of skipped updates, and weights that no evidence needs. UserError.
void rotate_anomalies(const fs::path& anomalies, i64 keep);

// Of all ranks' parts, in their order.
TokenBatch gather_batch(const TokenBatch& mine, Communicator& ranks);
std::vector<GateExtremes> gather_gates(const std::vector<GateExtremes>& mine, Communicator& ranks);

// A number that need not be finite: "nan", "inf" or "-inf" then.
Json any_number(double x);

}  // namespace xlstm
