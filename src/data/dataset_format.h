#pragma once
// A data set is a folder:
//   manifest.json        this struct
//   tokenizer.model      the tokenizer that made it
//   shard_00000.tokens   token ids, little-endian uint16 or uint32: each document's tokens, then the end-of-document id
//   shard_00000.docs     little-endian uint64: where in its shard each document starts, in tokens
//   shard_00000.rows     only of packed data sets, little-endian uint64: the number of the first piece of each row, and
//                        of all pieces; then of each piece, row by row, where in the shard it begins, and its length
// Documents never span shards.
#include <string>
#include <vector>

#include "core/json.h"

namespace xlstm {

enum class TokenType : std::uint8_t { uint16, uint32 };
constexpr i64 size_of(TokenType t) { return t == TokenType::uint16 ? 2 : 4; }
constexpr TokenType token_type_for(i64 vocab_size) {
  return vocab_size <= 65536 ? TokenType::uint16 : TokenType::uint32;
}

struct ShardInfo {
  std::string file;  // without .tokens and .docs
  i64 tokens = 0, documents = 0;
  std::string tokens_xxh3, docs_xxh3;  // of the whole files
  i64 rows = 0, pieces = 0;            // of a packed data set
  std::string rows_xxh3{};

  i64 rows_bytes() const { return rows > 0 ? 8 * (rows + 1 + 2 * pieces) : 0; }
};

Json to_json(const ShardInfo& shard);

constexpr i64 kMostRowTokens = i64{1} << 31;

struct Manifest {
  static constexpr int kVersion = 1;

  std::string tokenizer_sha256;
  i64 vocab_size = 0, eod_id = 0;
  i64 text_bytes = 0;   // of the original text
  i64 token_bytes = 0;  // that the tokens stand for: more than text_bytes when invalid UTF-8 was replaced
  i64 row_tokens = 0;   // of each packed row; 0: not packed
  std::vector<ShardInfo> shards;

  TokenType token_type() const { return token_type_for(vocab_size); }
  i64 tokens() const;
  i64 documents() const;
  i64 rows() const;
  i64 bytes() const;  // of all shards' files
  i64 bytes_of(const ShardInfo& shard) const;
  double padding() const;           // share of all rows' tokens that is none
  std::string fingerprint() const;  // sha256 over everything above: two data sets with the same one are the same

  // sha256 over the tokenizer and the tokens of each shard alone: the same text as windows of it see it, packed or not.
  std::string tokens_fingerprint() const;

  Json to_json() const;

  // UserError that names file and field when it is damaged, contradicts itself, or is of another version.
  static Manifest load(const fs::path& folder);
};

inline fs::path manifest_path(const fs::path& folder) { return folder / "manifest.json"; }
inline fs::path tokenizer_model_path(const fs::path& folder) { return folder / "tokenizer.model"; }
inline fs::path tokens_path(const fs::path& folder, const ShardInfo& shard) {
  return folder / (shard.file + ".tokens");
}
inline fs::path docs_path(const fs::path& folder, const ShardInfo& shard) { return folder / (shard.file + ".docs"); }
inline fs::path rows_path(const fs::path& folder, const ShardInfo& shard) { return folder / (shard.file + ".rows"); }

// `path` itself when it holds a manifest, else path/part ("train" or "validation") when that does; else a UserError.
fs::path resolve_dataset(const fs::path& path, const std::string& part = "train");

}  // namespace xlstm
