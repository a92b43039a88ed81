#pragma once
// EncodePipeline: documents in, token ids out in the same order, encoded by several threads.
#include <condition_variable>
#include <exception>
#include <map>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

#include "data/text_reader.h"
#include "data/tokenizer.h"

namespace xlstm {

// The documents of about a quarter of a megabyte of text.
struct EncodedBatch {
  struct Entry {
    std::size_t first_id, end_id;  // in `ids`
    i64 text_bytes, token_bytes;   // of the original text; that the ids stand for
  };
  std::vector<int> ids;
  std::vector<Entry> documents;
  i64 packed_bytes = 0;  // read from the files when this batch ended
  std::exception_ptr error;

  std::span<const int> ids_of(const Entry& e) const { return {ids.data() + e.first_id, e.end_id - e.first_id}; }
};

class EncodePipeline {
 public:
  // Reads on from where `reader` stands. Nobody else may use it while the pipeline lives.
  EncodePipeline(DocumentReader& reader, const Tokenizer& tokenizer, int threads);
  ~EncodePipeline();
  EncodePipeline(const EncodePipeline&) = delete;
  EncodePipeline& operator=(const EncodePipeline&) = delete;

  // The next batch in the order of the reader; false at the end. Rethrows what went wrong at that place of the input.
  bool next(EncodedBatch& batch);

 private:
  void work();
  void encode(const Document& document, const std::vector<int>& bytes_of, EncodedBatch& batch) const;
  bool read_batch(std::vector<Document>& documents, EncodedBatch& batch);

  DocumentReader& reader_;
  const Tokenizer& tokenizer_;
  i64 window_;  // batches that may be ahead of the one that next() waits for

  std::mutex reading_;  // held while taking documents, so that batch numbers follow the input
  i64 batches_read_ = 0;
  bool input_ended_ = false;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<i64, EncodedBatch> done_;
  i64 next_ = 0;
  int working_;  // threads that may still deliver
  bool stop_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace xlstm
