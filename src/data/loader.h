#pragma once
// Loader: batches of sequences, read ahead by a thread. Its whole state is the number of the next sequence; how the
// sequences are cut into batches changes nothing about them.
#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "data/interleaving.h"
#include "data/sequences.h"

namespace xlstm {

// Row-major (sequences, length), one sequence per row, as SequenceRow has it.
struct TokenBatch {
  i64 sequences = 0, length = 0;
  i64 first_sequence = 0;  // number of the first row's sequence
  std::vector<std::int32_t> ids, targets, starts;
};

// What sequences come from: one set, or several that alternate.
struct SequenceSource {
  std::vector<Sequences> sets;                 // at least one, all of one length
  Interleaving order{std::vector<double>{1}};  // of as many

  i64 context_length() const { return sets.front().context_length(); }
};

struct LoaderOptions {
  enum class Order : std::uint8_t {
    shuffled,    // epoch after epoch without end, each in its own order
    sequential,  // sequences 0, 1, ... of the one set, once
  };

  i64 context_length = 0;    // of the windows of a Dataset
  i64 batch_size = 0;        // sequences of a global batch
  i64 begin = 0, end = -1;   // those of each global batch that this loader reads; -1 = batch_size
  i64 micro_batch_size = 0;  // rows of a TokenBatch; 0 = all at once; the last one of a global batch may have fewer
  i64 first_sequence = 0;    // where the first global batch begins
  Order order = Order::shuffled;
  std::uint64_t seed = 0;  // of the shuffled order
  int ahead = 4;           // batches read ahead
};

class Loader {
 public:
  // The data sets must outlive the loader.
  Loader(SequenceSource source, const LoaderOptions& options);
  // The windows of one data set. UserError when it has fewer tokens than one window.
  Loader(const Dataset& dataset, const LoaderOptions& options)
      : Loader({.sets = {Sequences(dataset, options.context_length)}}, options) {}
  ~Loader();
  Loader(const Loader&) = delete;
  Loader& operator=(const Loader&) = delete;

  // The next batch; false when a sequential loader is at its end. Rethrows what went wrong while reading.
  bool next(TokenBatch& batch);

  i64 sequences() const { return source_.sets.front().count(); }  // of the one set
  double seconds_waited() const { return seconds_waited_; }       // inside next(), so far

 private:
  void run();
  bool advance(i64& first, i64& rows);
  void read_sequence(i64 number, const SequenceRow& out) const;
  void read_batch(TokenBatch& batch, i64 first, i64 rows) const;

  SequenceSource source_;
  LoaderOptions options_;
  i64 batch_start_, row_;  // the reading thread's place: first sequence of its global batch, next row in it

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<TokenBatch> ready_;
  std::vector<TokenBatch> spare_;  // batches whose memory is used again
  std::exception_ptr error_;
  bool ended_ = false, stop_ = false;
  double seconds_waited_ = 0;
  std::thread thread_;  // last: it uses all of the above
};

}  // namespace xlstm
