#include "data/loader.h"

#include <algorithm>

#include "core/profile.h"

namespace xlstm {

Loader::Loader(SequenceSource source, const LoaderOptions& options)
    : source_(std::move(source)), options_(options), batch_start_(options.first_sequence) {
  LoaderOptions& o = options_;
  if (o.end < 0) o.end = o.batch_size;
  if (o.micro_batch_size == 0) o.micro_batch_size = o.end - o.begin;
  XL_CHECK(o.first_sequence >= 0, "sequence {}", o.first_sequence);
  XL_CHECK(source_.sets.size() == 1 || o.order == LoaderOptions::Order::shuffled, "{} sets in sequence",
           source_.sets.size());
  XL_CHECK(0 <= o.begin && o.begin < o.end && o.end <= o.batch_size && o.micro_batch_size > 0,
           "sequences [{}, {}) of {}, {} at a time", o.begin, o.end, o.batch_size, o.micro_batch_size);
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
    if (!endless && batch_start_ >= sequences()) return false;
    first = batch_start_ + row_;
    rows = std::min(options_.micro_batch_size, options_.end - row_);
    row_ += rows;
    if (!endless) rows = std::min(rows, sequences() - first);
    if (rows > 0) return true;
  }
}

void Loader::read_sequence(i64 number, const SequenceRow& out) const {
  if (options_.order == LoaderOptions::Order::sequential) return source_.sets.front().read(number, out);
  const auto [set, n] = source_.order(number);
  source_.sets[set].read(shuffled(options_.seed, n, source_.sets[set].count(), set), out);
}

void Loader::read_batch(TokenBatch& batch, i64 first, i64 rows) const {
  const i64 length = source_.context_length();
  batch.sequences = rows;
  batch.length = length;
  batch.first_sequence = first;
  for (auto* v : {&batch.ids, &batch.targets, &batch.starts}) v->resize(static_cast<std::size_t>(rows * length));
  for (i64 row = 0; row < rows; ++row) {
    const i64 at = row * length;
    read_sequence(first + row, {&batch.ids[static_cast<std::size_t>(at)], &batch.targets[static_cast<std::size_t>(at)],
                                &batch.starts[static_cast<std::size_t>(at)]});
  }
}

}  // namespace xlstm
