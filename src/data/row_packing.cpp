#include "data/row_packing.h"

#include <algorithm>
#include <map>

namespace xlstm {

namespace {

using Row = std::vector<RowPiece>;

bool begins_earlier(const RowPiece& a, const RowPiece& b) { return a.begin < b.begin; }

// Documents, those longer than a row in parts of which all but the last fill one.
std::vector<RowPiece> pieces_of(const std::vector<std::uint64_t>& starts, std::uint64_t tokens, std::uint64_t most) {
  std::vector<RowPiece> pieces;
  for (std::size_t d = 0; d < starts.size(); ++d) {
    const std::uint64_t end = d + 1 < starts.size() ? starts[d + 1] : tokens;
    for (std::uint64_t at = starts[d]; at < end; at += most) pieces.push_back({at, std::min(most, end - at)});
  }
  return pieces;
}

// Into the newest of the rows that have the least room which is enough, or into a new one.
class Rows {
 public:
  explicit Rows(std::uint64_t row_tokens) : row_tokens_(row_tokens) {}

  void add(const RowPiece& piece) {
    std::size_t row = all.size();
    std::uint64_t room = row_tokens_;
    if (const auto it = with_room_.lower_bound(piece.length); it != with_room_.end()) {
      room = it->first;
      row = it->second.back();
      it->second.pop_back();
      if (it->second.empty()) with_room_.erase(it);
    } else {
      all.emplace_back();
    }
    all[row].push_back(piece);
    if (room > piece.length) with_room_[room - piece.length].push_back(row);
  }

  std::vector<Row> all;

 private:
  std::uint64_t row_tokens_;
  std::map<std::uint64_t, std::vector<std::size_t>> with_room_;
};

}  // namespace

PackedRows pack_rows(const std::vector<std::uint64_t>& starts, std::uint64_t tokens, std::uint64_t row_tokens) {
  std::vector<RowPiece> pieces = pieces_of(starts, tokens, row_tokens);
  std::stable_sort(pieces.begin(), pieces.end(),
                   [](const RowPiece& a, const RowPiece& b) { return a.length > b.length; });
  Rows rows(row_tokens);
  for (const RowPiece& piece : pieces) rows.add(piece);
  for (Row& row : rows.all) std::sort(row.begin(), row.end(), begins_earlier);
  std::sort(rows.all.begin(), rows.all.end(),
            [](const Row& a, const Row& b) { return begins_earlier(a.front(), b.front()); });
  PackedRows packed;
  for (const Row& row : rows.all) {
    packed.first_piece.push_back(packed.pieces.size());
    packed.pieces.insert(packed.pieces.end(), row.begin(), row.end());
  }
  packed.first_piece.push_back(packed.pieces.size());
  return packed;
}

std::string fault_of(const PackedRows& rows, const std::vector<std::uint64_t>& starts, std::uint64_t tokens,
                     std::uint64_t row_tokens) {
  const auto& first = rows.first_piece;
  if (first.empty() || first.front() != 0 || first.back() != rows.pieces.size() ||
      !std::is_sorted(first.begin(), first.end()))
    return "rows do not begin one after the other";
  for (std::size_t r = 0; r < rows.rows(); ++r) {
    std::uint64_t room = row_tokens;
    for (std::uint64_t p = first[r]; p < first[r + 1]; ++p) {
      if (rows.pieces[p].length > room) return fmt::format("row {} has more than {} tokens", r, row_tokens);
      room -= rows.pieces[p].length;
    }
  }
  std::vector<RowPiece> found = rows.pieces;
  std::sort(found.begin(), found.end(), begins_earlier);
  const std::vector<RowPiece> expected = pieces_of(starts, tokens, row_tokens);
  for (std::size_t p = 0; p < expected.size(); ++p)
    if (p >= found.size() || found[p].begin != expected[p].begin || found[p].length != expected[p].length)
      return fmt::format("tokens {} to {} are in no row, or not as one piece", expected[p].begin,
                         expected[p].begin + expected[p].length - 1);
  return found.size() > expected.size() ? "tokens are in two rows" : "";
}

}  // namespace xlstm
