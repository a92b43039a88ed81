#pragma once
// The sequences of one length that a data set is cut into, by their numbers.
#include "data/dataset.h"
#include "data/order.h"
#include "data/packing.h"

namespace xlstm {

// One sequence: context_length numbers each.
struct SequenceRow {
  std::int32_t* ids;      // inputs
  std::int32_t* targets;  // the token after each input; -1 where there is none to predict
  std::int32_t* starts;   // 1 where the state is dropped: at the first input of a window or piece, and at an input that
                          // is the end-of-document id, which thereby opens the next document (spec §6.3)
};

// UserError when the data set has fewer tokens than one window.
void check_window_fits(const Dataset& dataset, i64 context_length);

class Sequences {
 public:
  // `data` must outlive it. UserError when it has fewer tokens than one window, or no rows of this length.
  Sequences(const Dataset& data, i64 context_length, Packing packing = Packing::concat);

  i64 count() const { return count_; }
  i64 context_length() const { return context_length_; }

  // Safe to call from several threads. UserError as Dataset::read.
  void read(i64 number, const SequenceRow& out) const;

 private:
  void read_window(i64 number, const SequenceRow& out) const;
  void read_packed(i64 number, const SequenceRow& out) const;

  const Dataset* data_;
  i64 context_length_, count_;
  Packing packing_;
};

}  // namespace xlstm
