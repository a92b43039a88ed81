#include "data/loader.h"

#include <algorithm>

#include "core/profile.h"

namespace xlstm {

void check_window_fits(const Dataset& dataset, i64 context_length) {
  if (dataset.total_tokens() > context_length) return;
  throw user_error("{}: {} tokens are too few for a context length of {}; the longest that fits is {}",
                   dataset.folder().string(), dataset.total_tokens(), context_length, dataset.total_tokens() - 1);
}

Loader::Loader(const Dataset& dataset, const LoaderOptions& options)
    : dataset_(dataset),
      options_(options),
      windows_{dataset.total_tokens(), options.context_length},
      batch_start_(options.first_sequence) {
  LoaderOptions& o = options_;
  if (o.end < 0) o.end = o.batch_size;
  if (o.micro_batch_size == 0) o.micro_batch_size = o.end - o.begin;
  XL_CHECK(o.context_length > 0 && o.first_sequence >= 0, "context {}, sequence {}", o.context_length,
           o.first_sequence);
  XL_CHECK(0 <= o.begin && o.begin < o.end && o.end <= o.batch_size && o.micro_batch_size > 0,
           "sequences [{}, {}) of {}, {} at a time", o.begin, o.end, o.batch_size, o.micro_batch_size);
  check_window_fits(dataset, o.context_length);
  row_ = o.begin;
  thread_ = std::thread([this] { run(); });
}

Loader::~Loader() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

bool Loader::next(TokenBatch& batch) {
  const Timer timer;
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return !ready_.empty() || ended_; });
  seconds_waited_ += timer.seconds();
  if (ready_.empty()) {
    if (error_) std::rethrow_exception(error_);
    return false;
  }
  std::swap(batch, ready_.front());
  spare_.push_back(std::move(ready_.front()));
  ready_.pop_front();
  lock.unlock();
  changed_.notify_all();
  return true;
}

void Loader::run() {
  try {
    i64 first, rows;
    while (advance(first, rows)) {
      TokenBatch batch;
      {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [&] { return static_cast<int>(ready_.size()) < options_.ahead || stop_; });
        if (stop_) return;
        if (!spare_.empty()) {
          batch = std::move(spare_.back());
          spare_.pop_back();
        }
      }
      read_batch(batch, first, rows);
      {
        const std::lock_guard lock(mutex_);
        ready_.push_back(std::move(batch));
      }
      changed_.notify_all();
    }
  } catch (...) {
    error_ = std::current_exception();  // read by next() only after it has seen ended_
  }
  const std::lock_guard lock(mutex_);
  ended_ = true;
  changed_.notify_all();
}

// The sequences of the next batch; false at the end of a sequential order.
bool Loader::advance(i64& first, i64& rows) {
  const bool endless = options_.order == LoaderOptions::Order::shuffled;
  for (;;) {
    if (row_ == options_.end) {
      row_ = options_.begin;
      batch_start_ += options_.batch_size;
    }
    if (!endless && batch_start_ >= windows_.count()) return false;
    first = batch_start_ + row_;
    rows = std::min(options_.micro_batch_size, options_.end - row_);
    row_ += rows;
    if (!endless) rows = std::min(rows, windows_.count() - first);
    if (rows > 0) return true;
  }
}

void Loader::read_batch(TokenBatch& batch, i64 first, i64 rows) const {
  const i64 length = options_.context_length;
  const auto size = static_cast<std::size_t>(rows * length);
  batch.sequences = rows;
  batch.length = length;
  batch.first_sequence = first;
  batch.ids.resize(size);
  batch.targets.resize(size);
  batch.starts.resize(size);
  std::vector<std::int32_t> window(static_cast<std::size_t>(length) + 1);
  for (i64 row = 0; row < rows; ++row) {
    const i64 sequence = first + row;
    const i64 w = options_.order == LoaderOptions::Order::sequential
                      ? sequence
                      : shuffled_window(options_.seed, sequence, windows_.count());
    dataset_.read(windows_.first_token(w), length + 1, window.data());
    const i64 at = row * length;
    std::copy(window.begin(), window.end() - 1, batch.ids.begin() + at);
    std::copy(window.begin() + 1, window.end(), batch.targets.begin() + at);
    for (i64 t = 0; t < length; ++t)
      batch.starts[static_cast<std::size_t>(at + t)] =
          t == 0 || window[static_cast<std::size_t>(t)] == dataset_.eod_id();
  }
}

}  // namespace xlstm
