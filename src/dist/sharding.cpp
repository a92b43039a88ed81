#include "dist/sharding.h"

#include <algorithm>

namespace xlstm {

RowShards::RowShards(i64 elements, const std::vector<i64>& parts, i64 grain, Ranks ranks)
    : grain_(grain), ranks_(ranks) {
  XL_CHECK(!parts.empty() && parts[0] == 0 && grain > 0 && 0 <= ranks.rank && ranks.rank < ranks.size,
           "{} parts, grain {}, rank {} of {}", parts.size(), grain, ranks.rank, ranks.size);
  const i64 grains = (elements + grain - 1) / grain;
  const auto first_grain = [&](std::size_t part) {
    return part < parts.size() ? std::min((parts[part] + grain - 1) / grain, grains) : grains;
  };
  i64 turn = 0;  // who is the next to get a grain more than others
  for (std::size_t s = 0; s < parts.size(); ++s) {
    const i64 first = first_grain(s), count = first_grain(s + 1) - first, more = count % ranks.size;
    std::vector<i64> in_grains{first}, in_elements{std::min(first * grain, elements)};
    for (i64 r = 0; r < ranks.size; ++r) {
      const bool one_more = (r - turn + ranks.size) % ranks.size < more;
      in_grains.push_back(in_grains.back() + count / ranks.size + (one_more ? 1 : 0));
      in_elements.push_back(std::min(in_grains.back() * grain, elements));
    }
    turn = (turn + more) % ranks.size;
    std::vector<i64> local = in_elements;
    for (i64& border : local) border -= in_elements[0];
    const auto me = static_cast<std::size_t>(ranks.rank);
    pieces_.push_back({in_elements[me], in_elements[me + 1], owned_});
    owned_ += in_elements[me + 1] - in_elements[me];
    borders_.push_back(std::move(in_elements));
    grain_borders_.push_back(std::move(in_grains));
    local_borders_.push_back(std::move(local));
  }
}

i64 RowShards::largest_received() const {
  i64 most = 0;
  for (const Piece& p : pieces_) most = std::max(most, p.end - p.begin);
  return most * ranks_.size;
}

}  // namespace xlstm
