#pragma once
// Dataset: the tokens of a folder made by `xlstm data build` as one long stream. Read, not mapped: a file that is cut
// off meanwhile is an error then, and not a signal or zeros.
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "data/dataset_format.h"
#include "data/row_packing.h"

namespace xlstm {

class Dataset {
 public:
  // `path` holds manifest.json, or path/part does. Checks the manifest, that the tokenizer is the one it names, and the
  // size of every file, but not the checksums of shards (verify_dataset does). UserError when something is missing,
  // damaged or cut off.
  static Dataset open(const fs::path& path, const std::string& part = "train");

  i64 total_tokens() const { return first_token_.back(); }
  i64 vocab_size() const { return manifest_.vocab_size; }
  i64 eod_id() const { return manifest_.eod_id; }
  const Manifest& manifest() const { return manifest_; }
  const std::string& fingerprint() const { return fingerprint_; }
  const std::string& tokenizer_sha256() const { return manifest_.tokenizer_sha256; }
  fs::path tokenizer_path() const { return tokenizer_model_path(folder_); }
  const fs::path& folder() const { return folder_; }

  // Bytes of the original text for each byte that the tokens stand for (1 unless invalid UTF-8 was replaced): bits per
  // byte of original text = nats of the tokens / ln 2 / (sum of Tokenizer::token_bytes of the tokens * this).
  double text_bytes_per_token_byte() const;

  // out[0, count) = the tokens from `position` on, across shards. UserError with shard and offset on an id outside the
  // vocabulary, or when the file has become shorter. Safe to call from several threads.
  void read(i64 position, i64 count, std::int32_t* out) const;

  // Of a packed data set: what stands in a row, by the numbers of tokens in the whole stream. UserError when the file
  // cannot be, or has become shorter. Safe to call from several threads.
  std::vector<RowPiece> row(i64 number) const;
  // Reads all rows of a packed data set, as far as it is one, and compares their checksums. UserError with the file.
  void verify_rows() const;

 private:
  Dataset() = default;

  fs::path folder_;
  Manifest manifest_;
  std::string fingerprint_;
  std::vector<std::unique_ptr<InputFile>> shards_;
  std::vector<i64> first_token_;  // of each shard in the stream, and the end
  std::vector<std::unique_ptr<InputFile>> row_files_;
  std::vector<i64> first_row_;  // of each shard, and the end
};

// Reads everything: sizes, checksums, token ids, document offsets, the tokenizer. UserError that names the file, the
// offset where there is one, and what was expected. `verified` hears after each shard how many bytes are done.
void verify_dataset(const fs::path& folder, const std::function<void(i64 bytes)>& verified = {});

}  // namespace xlstm
