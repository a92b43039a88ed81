#pragma once
#include "core/tensor.h"

namespace xlstm {

// How rows of activations form sequences: B sequences of T tokens lie one after the other.
struct SequenceView {
  i64 sequences = 1, length = 0;
  Tensor starts;  // (B*T, 1) i32; != 0 where the recurrent state is dropped before the token
  i64 rows() const { return sequences * length; }
};

// What the model reads and what it is to predict. i32, (B*T, 1) each; target -1 is not scored.
struct TokenRows {
  Tensor ids, targets;
  SequenceView seq;

  // `count` of its sequences.
  TokenRows sequences(i64 first, i64 count) const {
    const i64 begin = first * seq.length, end = begin + count * seq.length;
    return {ids.slice_rows(begin, end),
            targets.slice_rows(begin, end),
            {count, seq.length, seq.starts.slice_rows(begin, end)}};
  }
};

}  // namespace xlstm
