#include "data/encode_pipeline.h"

namespace xlstm {

namespace {
constexpr std::size_t kBatchBytes = std::size_t{1} << 18;
}

EncodePipeline::EncodePipeline(DocumentReader& reader, const Tokenizer& tokenizer, int threads)
    : reader_(reader), tokenizer_(tokenizer), window_(2 * threads), working_(threads) {
  for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { work(); });
}

EncodePipeline::~EncodePipeline() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

bool EncodePipeline::next(EncodedBatch& batch) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return done_.contains(next_) || working_ == 0; });
  const auto it = done_.find(next_);
  if (it == done_.end()) return false;
  batch = std::move(it->second);
  done_.erase(it);
  ++next_;
  lock.unlock();
  changed_.notify_all();
  if (batch.error) std::rethrow_exception(batch.error);
  return true;
}

void EncodePipeline::work() {
  const std::vector<int> bytes_of = tokenizer_.token_bytes();
  std::vector<Document> documents;
  for (;;) {
    EncodedBatch batch;
    i64 number;
    {
      const std::lock_guard lock(reading_);
      if (input_ended_ || !read_batch(documents, batch)) break;
      number = batches_read_++;
    }
    try {
      for (const Document& document : documents) encode(document, bytes_of, batch);
    } catch (...) {
      batch.error = std::current_exception();
    }
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return number < next_ + window_ || stop_; });
    if (stop_) break;
    done_.emplace(number, std::move(batch));
    changed_.notify_all();
  }
  const std::lock_guard lock(mutex_);
  --working_;
  changed_.notify_all();
}

void EncodePipeline::encode(const Document& document, const std::vector<int>& bytes_of, EncodedBatch& batch) const {
  const std::vector<int> ids = tokenizer_.encode(document.text);
  i64 bytes = 0;
  for (const int id : ids) bytes += bytes_of[static_cast<std::size_t>(id)];
  batch.documents.push_back({batch.ids.size(), batch.ids.size() + ids.size(), document.original_bytes, bytes});
  batch.ids.insert(batch.ids.end(), ids.begin(), ids.end());
}

// False at the end of the input. An error ends the input, after the documents that came before it.
bool EncodePipeline::read_batch(std::vector<Document>& documents, EncodedBatch& batch) {
  documents.clear();
  std::size_t bytes = 0;
  try {
    Document document;
    while (bytes < kBatchBytes && reader_.next(document)) {
      bytes += document.text.size();
      documents.push_back(std::move(document));
    }
  } catch (...) {
    batch.error = std::current_exception();
  }
  batch.packed_bytes = reader_.packed_bytes_read();
  input_ended_ = bytes < kBatchBytes;
  return !documents.empty() || batch.error;
}

}  // namespace xlstm
