#include "data/mixture.h"

#include "core/hash.h"

namespace xlstm {

namespace {

std::vector<double> weights_of(const std::vector<MixedSet>& sets) {
  std::vector<double> weights;
  weights.reserve(sets.size());
  for (const MixedSet& set : sets) weights.push_back(set.weight);
  return weights;
}

}  // namespace

Mixture::Mixture(std::vector<MixedSet> sets) : sets_(std::move(sets)), order_(weights_of(sets_)) {}

std::string Mixture::fingerprint() const {
  if (sets_.size() == 1) return sets_.front().data.fingerprint();
  Json parts = Json::array();
  for (const MixedSet& set : sets_) parts.push_back({set.data.fingerprint(), set.weight});
  return sha256_hex(parts.dump());
}

SequenceSource Mixture::sequences(i64 context_length, Packing packing) const {
  SequenceSource source{.sets = {}, .order = order_};
  for (const MixedSet& set : sets_) source.sets.emplace_back(set.data, context_length, packing);
  return source;
}

}  // namespace xlstm
