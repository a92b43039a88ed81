#include "data/sequences.h"

#include <algorithm>

namespace xlstm {

void check_window_fits(const Dataset& dataset, i64 context_length) {
  if (dataset.total_tokens() > context_length) return;
  throw user_error("{}: {} tokens are too few for a context length of {}; the longest that fits is {}",
                   dataset.folder().string(), dataset.total_tokens(), context_length, dataset.total_tokens() - 1);
}

namespace {

void check_rows(const Dataset& data, i64 context_length) {
  const i64 row_tokens = data.manifest().row_tokens;
  if (row_tokens == context_length) return;
  throw user_error("{}: {}, a context length of {} is wanted; build it with --packing first_fit --context {}",
                   data.folder().string(),
                   row_tokens > 0 ? fmt::format("is packed into rows of {} tokens", row_tokens) : "is not packed",
                   context_length, context_length);
}

}  // namespace

Sequences::Sequences(const Dataset& data, i64 context_length, Packing packing)
    : data_(&data), context_length_(context_length), packing_(packing) {
  XL_CHECK(context_length > 0, "context {}", context_length);
  if (packing == Packing::first_fit) {
    check_rows(data, context_length);
    count_ = data.manifest().rows();
  } else {
    check_window_fits(data, context_length);
    count_ = Windows{data.total_tokens(), context_length}.count();
  }
}

void Sequences::read(i64 number, const SequenceRow& out) const {
  XL_CHECK(number >= 0 && number < count_, "sequence {} of {}", number, count_);
  if (packing_ == Packing::first_fit) return read_packed(number, out);
  read_window(number, out);
}

void Sequences::read_window(i64 number, const SequenceRow& out) const {
  const Windows windows{data_->total_tokens(), context_length_};
  std::vector<std::int32_t> window(static_cast<std::size_t>(context_length_) + 1);
  data_->read(windows.first_token(number), context_length_ + 1, window.data());
  std::copy(window.begin(), window.end() - 1, out.ids);
  std::copy(window.begin() + 1, window.end(), out.targets);
  for (i64 t = 0; t < context_length_; ++t) out.starts[t] = t == 0 || out.ids[t] == data_->eod_id();
}

// Each piece's tokens are targets; before its first one stands the token before it, which is the end of another
// document unless the piece is a later part of one. What is left of the row is padding: nothing is predicted there.
void Sequences::read_packed(i64 number, const SequenceRow& out) const {
  const auto eod = static_cast<std::int32_t>(data_->eod_id());
  i64 at = 0;
  std::vector<std::int32_t> tokens;
  for (const RowPiece& piece : data_->row(number)) {
    const auto begin = static_cast<i64>(piece.begin), length = static_cast<i64>(piece.length);
    tokens.assign(piece.length + 1, eod);
    if (begin > 0)
      data_->read(begin - 1, length + 1, tokens.data());
    else
      data_->read(begin, length, tokens.data() + 1);
    std::copy(tokens.begin(), tokens.end() - 1, out.ids + at);
    std::copy(tokens.begin() + 1, tokens.end(), out.targets + at);
    for (i64 t = 0; t < length; ++t) out.starts[at + t] = t == 0 || out.ids[at + t] == eod;
    at += length;
  }
  std::fill(out.ids + at, out.ids + context_length_, eod);
  std::fill(out.targets + at, out.targets + context_length_, -1);
  std::fill(out.starts + at, out.starts + context_length_, 1);
}

}  // namespace xlstm
