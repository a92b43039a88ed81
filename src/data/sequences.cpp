#include "data/sequences.h"

#include <algorithm>

namespace xlstm {

void check_window_fits(const Dataset& dataset, i64 context_length) {
  if (dataset.total_tokens() > context_length) return;
  throw user_error("{}: {} tokens are too few for a context length of {}; the longest that fits is {}",
                   dataset.folder().string(), dataset.total_tokens(), context_length, dataset.total_tokens() - 1);
}

Sequences::Sequences(const Dataset& data, i64 context_length, Packing packing)
    : data_(&data), context_length_(context_length), packing_(packing) {
  XL_CHECK(context_length > 0, "context {}", context_length);
  check_window_fits(data, context_length);
  count_ = Windows{data.total_tokens(), context_length}.count();
}

void Sequences::read(i64 number, const SequenceRow& out) const {
  XL_CHECK(number >= 0 && number < count_, "sequence {} of {}", number, count_);
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

}  // namespace xlstm
