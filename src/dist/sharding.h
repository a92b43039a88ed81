#pragma once
// Which part of a flat row (core/params.h) belongs to which rank. The row is cut into segments, one per part of the
// model, so that each can travel as soon as it is computed; every segment is cut into a piece per rank, so that all
// ranks share in each. Borders lie on multiples of `grain`: what is summed over blocks of that size (ops::sum_squares)
// has the same blocks on every rank and for any number of ranks. Sizes need not be even: pieces of a segment differ by
// one grain at most, and so do all pieces of two ranks together.
#include <vector>

#include "core/tensor.h"

namespace xlstm {

// This process among the ranks of the run.
struct Ranks {
  int rank = 0, size = 1;
};

struct Piece {
  i64 begin, end;  // in the flat row
  i64 at;          // where it begins in a row that holds this rank's pieces alone, one behind the other
};

class RowShards {
 public:
  // `parts`: where the parts of the model begin in the row, ascending, the first at 0. A segment reaches from the first
  // border behind its part's begin to the first one behind the next: the little beyond its part's end belongs to a
  // part whose gradients are ready before, as the backward pass goes.
  RowShards(i64 elements, const std::vector<i64>& parts, i64 grain, Ranks ranks);

  i64 segments() const { return static_cast<i64>(borders_.size()); }
  const std::vector<i64>& borders(i64 segment) const { return borders_[static_cast<std::size_t>(segment)]; }
  i64 begin(i64 segment) const { return borders(segment).front(); }
  i64 end(i64 segment) const { return borders(segment).back(); }
  i64 length(i64 segment) const { return end(segment) - begin(segment); }

  // This rank's piece of each segment.
  const std::vector<Piece>& pieces() const { return pieces_; }
  const Piece& piece(i64 segment) const { return pieces_[static_cast<std::size_t>(segment)]; }
  i64 owned() const { return owned_; }  // elements of all its pieces
  i64 largest_received() const;         // elements of what an exchange of any segment receives

  // borders(segment) in grains, and counted from the segment's begin
  const std::vector<i64>& grain_borders(i64 segment) const { return grain_borders_[static_cast<std::size_t>(segment)]; }
  const std::vector<i64>& local_borders(i64 segment) const { return local_borders_[static_cast<std::size_t>(segment)]; }
  i64 grain() const { return grain_; }
  const Ranks& ranks() const { return ranks_; }

 private:
  i64 grain_;
  Ranks ranks_;
  std::vector<std::vector<i64>> borders_, grain_borders_, local_borders_;
  std::vector<Piece> pieces_;
  i64 owned_ = 0;
};

}  // namespace xlstm
