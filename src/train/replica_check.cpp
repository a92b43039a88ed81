#include "train/replica_check.h"

#include <algorithm>
#include <map>

#include "core/hash.h"

namespace xlstm {

namespace {

// A row of a matrix in host memory at a time, or the tensor itself where it lies there.
std::string checksum(Context& ctx, const Tensor& t) {
  if (t.device == Device::cpu) return xxh3_hex(t.data, static_cast<std::size_t>(t.bytes()));
  std::vector<std::byte> host(static_cast<std::size_t>(t.bytes()));
  download(ctx, host.data(), t);
  return xxh3_hex(host.data(), host.size());
}

std::string who_differs(const std::vector<std::string>& hashes, Communicator& ranks) {
  std::map<std::string, int> votes;
  for (const std::string& h : hashes) ++votes[h];
  const auto most =
      std::max_element(votes.begin(), votes.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  const bool majority = 2 * most->second > ranks.size();
  std::string names;
  for (int r = 0; r < ranks.size(); ++r)
    if (!majority || hashes[static_cast<std::size_t>(r)] != most->first)
      names += (names.empty() ? "" : ", ") + ranks.name(r);
  return majority ? fmt::format("differs on {} from all others", names) : fmt::format("differs between {}", names);
}

}  // namespace

void compare_replicas(Context& ctx, const TrainState& state, Communicator& ranks, i64 step) {
  std::string mine;
  for (const ParamInfo& info : state.params.all()) mine += checksum(ctx, info.param.value);
  const std::vector<std::string> all = ranks.gather_texts("comparison of weights", mine);
  const std::size_t length = mine.size() / state.params.all().size();
  for (std::size_t i = 0; i < state.params.all().size(); ++i) {
    std::vector<std::string> hashes;
    hashes.reserve(all.size());
    for (const std::string& text : all) hashes.push_back(text.substr(i * length, length));
    if (std::all_of(hashes.begin(), hashes.end(), [&](const std::string& h) { return h == hashes[0]; })) continue;
    throw SharedFault(
        fmt::format("step {}: weights differ between ranks: '{}' {}; memory or a link is not to be trusted there. "
                    "Nothing is saved: "
                    "take that machine out, and go on from a checkpoint before this step",
                    step, state.params.all()[i].name, who_differs(hashes, ranks)));
  }
}

}  // namespace xlstm
