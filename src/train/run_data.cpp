#include "train/run_data.h"

namespace xlstm {

namespace {

Dataset open_dataset(const std::string& path, const std::string& key, const char* part, const TrainConfig& cfg) {
  if (path.empty()) throw user_error("{}: name a folder made by 'xlstm data build'", key);
  Dataset data = [&] {
    try {
      return Dataset::open(path, part);
    } catch (const UserError& e) {
      throw user_error("{}: {}", key, e.what());
    }
  }();
  if (data.vocab_size() > cfg.model.vocab_size)
    throw user_error("{}: {} has a vocabulary of {}, model.vocab_size is {}; set it to at least {}", key, path,
                     data.vocab_size(), cfg.model.vocab_size, data.vocab_size());
  return data;
}

// Whether there are sequences of the run's length in it. Rows are read as they are used, and one that lost a document
// would not tell; all of them are a hundredth of the tokens.
void check_sequences(const Dataset& data, const std::string& key, const TrainConfig& cfg, Packing packing) {
  try {
    const Sequences all(data, cfg.train.context_length, packing);
    if (packing == Packing::first_fit) data.verify_rows();
  } catch (const UserError& e) {
    throw user_error("{}: {}", key, e.what());
  }
}

void check_tokenizer(const Dataset& data, const std::string& path, const std::string& key, const Dataset& first,
                     const std::string& first_key) {
  if (data.tokenizer_sha256() != first.tokenizer_sha256())
    throw user_error("{}: {} was built with tokenizer {:.12}, {} with {:.12}; build both with one", key, path,
                     data.tokenizer_sha256(), first_key, first.tokenizer_sha256());
  if (data.eod_id() != first.eod_id())
    throw user_error("{}: documents of {} end with token {}, those of {} with {}; build both alike", key, path,
                     data.eod_id(), first_key, first.eod_id());
}

// The same windows would come twice, in two orders, and no weight would say how often.
void check_distinct(const std::vector<MixedSet>& sets, const Dataset& data, const std::string& key) {
  for (std::size_t i = 0; i < sets.size(); ++i)
    if (sets[i].data.manifest().tokens_fingerprint() == data.manifest().tokens_fingerprint())
      throw user_error("{}: the same text as {}; name it once, with the sum of the weights", key,
                       DataConfig::mixture_key(i, "path"));
}

NamedSet open_set(const std::string& name, const std::string& folder, const TrainConfig& cfg, const Mixture& train) {
  const std::string key = key_of_evaluation_set(name);
  Dataset data = open_dataset(folder, key, "validation", cfg);
  check_tokenizer(data, folder, key, train.sets().front().data, cfg.data.key_of_set(0));
  check_sequences(data, key, cfg, Packing::concat);
  return {name, std::move(data)};
}

}  // namespace

Mixture open_training_data(const TrainConfig& cfg) {
  std::vector<MixedSet> sets;
  for (const MixtureEntry& entry : cfg.data.training_sets()) {
    const std::string key = cfg.data.key_of_set(sets.size());
    Dataset data = open_dataset(entry.path, key, "train", cfg);
    if (!sets.empty()) check_tokenizer(data, entry.path, key, sets.front().data, cfg.data.key_of_set(0));
    check_distinct(sets, data, key);
    check_sequences(data, key, cfg, cfg.data.packing);
    sets.push_back({entry.name, entry.weight, std::move(data)});
  }
  return Mixture(std::move(sets));
}

std::vector<NamedSet> open_evaluation_sets(const TrainConfig& cfg, const Mixture& train) {
  std::vector<NamedSet> sets;
  if (!cfg.data.validation.empty()) sets.push_back(open_set("validation", cfg.data.validation, cfg, train));
  for (const auto& [name, folder] : cfg.eval.sets) sets.push_back(open_set(name, folder, cfg, train));
  return sets;
}

DataIdentity identity_of(const Mixture& train, const std::vector<NamedSet>& sets) {
  DataIdentity identity{.training = train.fingerprint(), .evaluation = {}};
  for (const NamedSet& set : sets) identity.evaluation[set.name] = set.data.manifest().tokens_fingerprint();
  return identity;
}

std::string key_of_evaluation_set(const std::string& name) {
  return name == "validation" ? "data.validation" : "eval.sets." + name;
}

Facts facts_of(const Mixture& train, const std::vector<NamedSet>& sets) {
  Facts facts;
  if (train.sets().size() == 1) facts["data.train"] = train.fingerprint();
  if (train.sets().size() > 1)
    for (std::size_t i = 0; i < train.sets().size(); ++i)
      facts[DataConfig::mixture_key(i, "path")] = train.sets()[i].data.fingerprint();
  for (const NamedSet& set : sets) facts[key_of_evaluation_set(set.name)] = set.data.fingerprint();
  return facts;
}

}  // namespace xlstm
