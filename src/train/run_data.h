#pragma once
// The data of a run, opened as its config names them. Every refusal begins with the key.
#include "data/mixture.h"
#include "train/agreement.h"

namespace xlstm {

// A set to evaluate on: "validation", or a name of eval.sets.
struct NamedSet {
  std::string name;
  Dataset data;
};

// What data.train or data.mixture name.
Mixture open_training_data(const TrainConfig& cfg);
// data.validation, if it is set, then those of eval.sets. Each must have the tokenizer of the training data.
std::vector<NamedSet> open_evaluation_sets(const TrainConfig& cfg, const Mixture& train);

std::string key_of_evaluation_set(const std::string& name);  // "data.validation", "eval.sets.code"

// What a run was trained and evaluated on, whatever the folders are called. "" and no sets: not known.
struct DataIdentity {
  std::string training;                           // Mixture::fingerprint
  std::map<std::string, std::string> evaluation;  // Manifest::tokens_fingerprint, by name of the set
};
DataIdentity identity_of(const Mixture& train, const std::vector<NamedSet>& sets);

// Their fingerprints by key, for the ranks to agree upon.
Facts facts_of(const Mixture& train, const std::vector<NamedSet>& sets);

}  // namespace xlstm
