#include "train/replica_check.h"

#include <algorithm>
#include <map>
#include <set>

#include "core/hash.h"

namespace xlstm {

namespace {

constexpr std::size_t kHexDigits = 32;  // of a checksum

// The part of a parameter that one rank updates.
struct Span {
  int owner;
  i64 begin, end;  // elements of the parameter
};

std::vector<Span> spans_of(const TrainState& s, std::size_t tensor) {
  const i64 place = s.params.place(tensor), size = s.params.all()[tensor].master.size();
  const int ranks = s.shards.ranks().size;
  std::vector<Span> spans;
  for (int r = 0; r < ranks; ++r) {
    const RowShards of(s.params.flat_size(), s.model.part_begins, s.shards.grain(), {r, ranks});
    for (const Piece& p : of.pieces())
      if (const i64 begin = std::max(place, p.begin), end = std::min(place + size, p.end); begin < end)
        spans.push_back({r, begin - place, end - place});
  }
  return spans;
}

std::string joined(const std::set<int>& who, const Communicator& ranks) {
  std::string names;
  for (const int r : who) names += (names.empty() ? "" : ", ") + ranks.name(r);
  return names;
}

}  // namespace

std::string checksum(Context& ctx, const Tensor& t, i64 chunk_bytes) {
  if (t.device == Device::cpu) return xxh3_hex(t.data, static_cast<std::size_t>(t.bytes()));
  const Tensor row = t.flat();
  const i64 chunk = chunk_bytes / size_of(t.dtype);
  std::vector<std::byte> host(static_cast<std::size_t>(std::min(chunk_bytes, t.bytes())));
  Xxh3 hash;
  for (i64 at = 0; at < row.cols; at += chunk) {
    const Tensor part = row.slice_cols(at, std::min(at + chunk, row.cols));
    download(ctx, host.data(), part);
    hash.update(host.data(), static_cast<std::size_t>(part.bytes()));
  }
  return hash.hex();
}

std::vector<ReplicaCheck::Owned> ReplicaCheck::owned() const {
  std::vector<Owned> out;
  if (!s_.sharded) return out;  // every rank updates everything: what differs stays different
  const std::vector<NamedTensor> moments = s_.named_moments();
  const bool rounded = s_.own_masters.rows > 0;
  for (const TensorPiece& p : s_.pieces()) {
    if (p.of == TensorPiece::Of::optimizer) {
      out.push_back({moments[p.tensor].name, p.values});
      continue;
    }
    const ParamInfo& info = s_.params.all()[p.tensor];
    out.push_back({info.name, p.values});
    if (rounded) out.push_back({info.name, info.param.value.flat().slice_cols(p.begin, p.begin + p.values.cols)});
  }
  return out;
}

void ReplicaCheck::remember() {
  remembered_.clear();
  for (const Owned& o : owned()) remembered_.push_back(checksum(ctx_, o.values));
}

std::string ReplicaCheck::changed() const {
  const std::vector<Owned> now = owned();
  XL_CHECK(now.size() == remembered_.size(), "{} checksums of {} pieces", remembered_.size(), now.size());
  for (std::size_t i = 0; i < now.size(); ++i)
    if (checksum(ctx_, now[i].values) != remembered_[i]) return now[i].name;
  return "";
}

// All of equal right: the majority is believed.
std::string ReplicaCheck::who_differs(std::size_t tensor, const std::vector<std::string>& hashes) const {
  if (s_.sharded) return who_differs_from_owner(tensor);
  std::map<std::string, int> votes;
  for (const std::string& h : hashes) ++votes[h];
  const auto most =
      std::max_element(votes.begin(), votes.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  const bool majority = 2 * most->second > ranks_.size();
  std::set<int> names;
  for (int r = 0; r < ranks_.size(); ++r)
    if (!majority || hashes[static_cast<std::size_t>(r)] != most->first) names.insert(r);
  return majority ? fmt::format("differs on {} from all others", joined(names, ranks_))
                  : fmt::format("differs between {}", joined(names, ranks_));
}

// Whose pieces have not changed is believed. Only where one differs: so that each time little is sent.
std::string ReplicaCheck::who_differs_from_owner(std::size_t tensor) const {
  const std::vector<Span> spans = spans_of(s_, tensor);
  const Tensor value = s_.params.all()[tensor].param.value.flat();
  std::string mine;
  for (const Span& s : spans) mine += checksum(ctx_, value.slice_cols(s.begin, s.end));
  const std::vector<std::string> all = ranks_.gather_texts("comparison of weights", mine);
  for (std::size_t i = 0; i < spans.size(); ++i) {
    const auto of = [&](int r) { return all[static_cast<std::size_t>(r)].substr(i * kHexDigits, kHexDigits); };
    std::set<int> differ;
    for (int r = 0; r < ranks_.size(); ++r)
      if (of(r) != of(spans[i].owner)) differ.insert(r);
    if (!differ.empty())
      return fmt::format("differs on {} from {}, which updates it", joined(differ, ranks_),
                         ranks_.name(spans[i].owner));
  }
  return "has changed on a rank while it was compared";
}

void ReplicaCheck::compare(i64 step) {
  const auto fault = [&](const std::string& name, const std::string& what) {
    return SharedFault(
        fmt::format("step {}: weights are not what they were: '{}' {}; memory or a link is not to be trusted there. "
                    "Nothing is saved: take that machine out, and go on from a checkpoint before this step",
                    step, name, what));
  };
  const std::vector<std::string> kept = ranks_.gather_texts("comparison of weights", changed());
  for (int r = 0; r < ranks_.size(); ++r)
    if (const std::string& name = kept[static_cast<std::size_t>(r)]; !name.empty())
      throw fault(name, fmt::format("has changed on {} since it was updated there", ranks_.name(r)));

  const std::vector<ParamInfo>& params = s_.params.all();
  std::string mine;
  for (const ParamInfo& info : params) mine += checksum(ctx_, info.param.value);
  const std::vector<std::string> all = ranks_.gather_texts("comparison of weights", mine);
  for (std::size_t i = 0; i < params.size(); ++i) {
    std::vector<std::string> hashes;
    hashes.reserve(all.size());
    for (const std::string& text : all) hashes.push_back(text.substr(i * kHexDigits, kHexDigits));
    if (std::any_of(hashes.begin(), hashes.end(), [&](const std::string& h) { return h != hashes[0]; }))
      throw fault(params[i].name, who_differs(i, hashes));
  }
}

}  // namespace xlstm
