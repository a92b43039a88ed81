#pragma once
// DatasetWriter: one data set folder in the making (dataset_format.h), with checkpoints from which it can go on.
#include <optional>
#include <span>

#include "data/dataset_format.h"
#include "data/tokenizer.h"

namespace xlstm {

class DatasetWriter {
 public:
  // `row_tokens`: of each row that documents are packed into; 0: they are not packed.
  DatasetWriter(fs::path folder, const TokenizerIdentity& tokenizer, i64 shard_tokens, i64 row_tokens = 0);

  // One document: its tokens without the end-of-document id, which is added here.
  void add(std::span<const int> ids, i64 text_bytes, i64 token_bytes);

  // Everything added so far is on the disk; the result is what resume() wants.
  Json commit();
  void resume(const Json& state);  // cuts the files back to that commit; UserError when they are not as recorded

  i64 tokens() const { return manifest_.tokens() + open_.tokens; }
  i64 documents() const { return manifest_.documents() + open_.documents; }

  // Closes the last shard and writes the manifest and the tokenizer. At least one document must have been added.
  Manifest finish();

 private:
  void open_shard(bool append);
  void write_out();
  void close_files();
  void close_shard();
  void pack_shard();

  fs::path folder_;
  std::string tokenizer_model_;
  i64 shard_tokens_;
  Manifest manifest_;  // of the finished shards, with the totals of all text
  ShardInfo open_;     // the shard being written; without a name when there is none
  std::optional<OutputFile> tokens_file_, docs_file_;
  std::string tokens_buffer_, docs_buffer_;
};

}  // namespace xlstm
