#pragma once
// Loader: batches of token windows, read ahead by a thread. Its whole state is the number of the next sequence; how
// the sequences are cut into batches changes nothing about them.
#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "data/dataset.h"
#include "data/order.h"

namespace xlstm {

// Row-major (sequences, length), one window per row.
struct TokenBatch {
  i64 sequences = 0, length = 0;
  i64 first_sequence = 0;             // number of the first row's sequence
  std::vector<std::int32_t> ids;      // inputs
  std::vector<std::int32_t> targets;  // the token after each input
  std::vector<std::int32_t> starts;   // 1 where the state is dropped: at the row's first token, and at an input that is
                                      // the end-of-document id, which thereby opens the next document (spec §6.3)
};

struct LoaderOptions {
  enum class Order : std::uint8_t {
    shuffled,    // epoch after epoch without end, each in its own order
    sequential,  // windows 0, 1, ... to the last, once
  };

  i64 context_length = 0;
  i64 batch_size = 0;        // sequences of a global batch
  i64 begin = 0, end = -1;   // those of each global batch that this loader reads; -1 = batch_size
  i64 micro_batch_size = 0;  // rows of a TokenBatch; 0 = all at once; the last one of a global batch may have fewer
  i64 first_sequence = 0;    // where the first global batch begins
  Order order = Order::shuffled;
  std::uint64_t seed = 0;  // of the shuffled order
  int ahead = 4;           // batches read ahead
};

// UserError when the data set has fewer tokens than one window.
void check_window_fits(const Dataset& dataset, i64 context_length);

class Loader {
 public:
  // `dataset` must outlive the loader. UserError when the data set has fewer tokens than one window.
  Loader(const Dataset& dataset, const LoaderOptions& options);
  ~Loader();
  Loader(const Loader&) = delete;
  Loader& operator=(const Loader&) = delete;

  // The next batch; false when a sequential loader is at its end. Rethrows what went wrong while reading.
  bool next(TokenBatch& batch);

  i64 windows() const { return windows_.count(); }
  double seconds_waited() const { return seconds_waited_; }  // inside next(), so far

 private:
  void run();
  bool advance(i64& first, i64& rows);
  void read_batch(TokenBatch& batch, i64 first, i64 rows) const;

  const Dataset& dataset_;
  LoaderOptions options_;
  Windows windows_;
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
