#pragma once
// Whole documents side by side in rows of so many tokens (docs/data.md, "Packed rows").
#include <vector>

#include "core/tensor.h"

namespace xlstm {

// Tokens [begin, begin + length) of a shard: a document with its end, or a part of one that is longer than a row.
struct RowPiece {
  std::uint64_t begin, length;
};

struct PackedRows {
  std::vector<std::uint64_t> first_piece;  // of each row, and the end
  std::vector<RowPiece> pieces;            // row by row
  std::size_t rows() const { return first_piece.size() - 1; }
};

// Every token of a shard in one row, once. `starts`: where its documents begin, the first at 0; `tokens`: of the shard.
// Best fit, longest piece first: each goes where the least room is left that takes it. Pieces of a row, and rows by
// their first piece, stand in the order of the shard.
PackedRows pack_rows(const std::vector<std::uint64_t>& starts, std::uint64_t tokens, std::uint64_t row_tokens);

// What is wrong with rows that are to be such a packing: "" for nothing.
std::string fault_of(const PackedRows& rows, const std::vector<std::uint64_t>& starts, std::uint64_t tokens,
                     std::uint64_t row_tokens);

}  // namespace xlstm
