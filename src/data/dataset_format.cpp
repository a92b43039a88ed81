#include "data/dataset_format.h"

#include "core/hash.h"

namespace xlstm {

namespace {

constexpr i64 kMost = i64{1} << 60;  // tokens, bytes or documents: sums of what passes this cannot overflow

i64 count_field(const Json& object, const char* key, i64 least, i64 most, const fs::path& path) {
  if (const auto it = object.find(key); it != object.end() && !it->is_number_integer())
    throw user_error("{}: field '{}': expected a whole number, found {}", path.string(), key, it->dump());
  const i64 value = json_field<i64>(object, key, path);
  if (value < least || value > most)
    throw user_error("{}: field '{}': expected {} to {}, found {}", path.string(), key, least, most, value);
  return value;
}

ShardInfo shard_of(const Json& object, std::size_t number, const fs::path& path, bool packed) {
  ShardInfo shard;
  shard.file = json_field<std::string>(object, "file", path);
  if (shard.file != fmt::format("shard_{:05}", number))
    throw user_error("{}: field 'file' of shard {}: expected 'shard_{:05}', found '{}'", path.string(), number, number,
                     shard.file);
  shard.tokens = count_field(object, "tokens", 1, kMost, path);
  shard.documents = count_field(object, "documents", 1, shard.tokens, path);
  shard.tokens_xxh3 = json_field<std::string>(object, "tokens_xxh3", path);
  shard.docs_xxh3 = json_field<std::string>(object, "docs_xxh3", path);
  if (!packed) return shard;
  shard.rows = count_field(object, "rows", 1, shard.tokens, path);
  shard.pieces = count_field(object, "pieces", shard.rows, shard.tokens, path);
  shard.rows_xxh3 = json_field<std::string>(object, "rows_xxh3", path);
  return shard;
}

}  // namespace

Json to_json(const ShardInfo& s) {
  Json json = {{"file", s.file},
               {"tokens", s.tokens},
               {"documents", s.documents},
               {"tokens_xxh3", s.tokens_xxh3},
               {"docs_xxh3", s.docs_xxh3}};
  if (s.rows > 0) {
    json["rows"] = s.rows;
    json["pieces"] = s.pieces;
    json["rows_xxh3"] = s.rows_xxh3;
  }
  return json;
}

i64 Manifest::tokens() const {
  i64 sum = 0;
  for (const ShardInfo& shard : shards) sum += shard.tokens;
  return sum;
}

i64 Manifest::documents() const {
  i64 sum = 0;
  for (const ShardInfo& shard : shards) sum += shard.documents;
  return sum;
}

i64 Manifest::rows() const {
  i64 sum = 0;
  for (const ShardInfo& shard : shards) sum += shard.rows;
  return sum;
}

i64 Manifest::bytes() const {
  i64 sum = 0;
  for (const ShardInfo& shard : shards) sum += bytes_of(shard);
  return sum;
}

i64 Manifest::bytes_of(const ShardInfo& shard) const {
  return shard.tokens * size_of(token_type()) + shard.documents * 8 + shard.rows_bytes();
}

double Manifest::padding() const {
  const double all = static_cast<double>(rows()) * static_cast<double>(row_tokens);
  return all > 0 ? 1 - static_cast<double>(tokens()) / all : 0;
}

Json Manifest::to_json() const {
  Json json = {{"format", "xlstm-tokens"},
               {"version", kVersion},
               {"tokenizer_sha256", tokenizer_sha256},
               {"vocab_size", vocab_size},
               {"eod_id", eod_id},
               {"token_type", token_type() == TokenType::uint16 ? "uint16" : "uint32"},
               {"tokens", tokens()},
               {"documents", documents()},
               {"text_bytes", text_bytes},
               {"token_bytes", token_bytes}};
  if (row_tokens > 0) {
    json["row_tokens"] = row_tokens;
    json["rows"] = rows();
  }
  json["shards"] = Json::array();
  for (const ShardInfo& s : shards) json["shards"].push_back(xlstm::to_json(s));
  json["fingerprint"] = sha256_hex(json.dump());
  return json;
}

std::string Manifest::fingerprint() const { return to_json()["fingerprint"].get<std::string>(); }

std::string Manifest::tokens_fingerprint() const {
  Json parts{tokenizer_sha256, vocab_size, eod_id};
  for (const ShardInfo& s : shards) parts.push_back({s.tokens, s.tokens_xxh3});
  return sha256_hex(parts.dump());
}

Manifest Manifest::load(const fs::path& folder) {
  const fs::path path = manifest_path(folder);
  const Json json = read_json(path);
  if (!json.is_object() || json.value("format", Json()) != "xlstm-tokens")
    throw user_error("{}: expected \"format\": \"xlstm-tokens\"; make data sets with 'xlstm data build'",
                     path.string());
  if (const i64 version = count_field(json, "version", 1, kMost, path); version != kVersion)
    throw user_error("{}: format version {}, this program reads {}; build the data set again", path.string(), version,
                     kVersion);
  Manifest m;
  m.tokenizer_sha256 = json_field<std::string>(json, "tokenizer_sha256", path);
  m.vocab_size = count_field(json, "vocab_size", 1, i64{1} << 31, path);
  m.eod_id = count_field(json, "eod_id", 0, m.vocab_size - 1, path);
  m.text_bytes = count_field(json, "text_bytes", 0, kMost, path);
  m.token_bytes = count_field(json, "token_bytes", 0, kMost, path);
  if (json.contains("row_tokens")) m.row_tokens = count_field(json, "row_tokens", 1, kMostRowTokens, path);
  const Json shards = json_field<Json>(json, "shards", path);
  if (!shards.is_array() || shards.empty())
    throw user_error("{}: field 'shards': expected a list with at least one entry", path.string());
  i64 tokens = 0;
  for (const Json& shard : shards) {
    m.shards.push_back(shard_of(shard, m.shards.size(), path, m.row_tokens > 0));
    if ((tokens += m.shards.back().tokens) > kMost)
      throw user_error("{}: field 'shards': more tokens than can be", path.string());
  }
  if (m.to_json() != json)
    throw user_error(
        "{}: its totals or its fingerprint do not fit its content: it was damaged or edited; "
        "build the data set again",
        path.string());
  return m;
}

fs::path resolve_dataset(const fs::path& path, const std::string& part) {
  std::error_code ignored;
  if (fs::exists(manifest_path(path), ignored)) return path;
  if (fs::exists(manifest_path(path / part), ignored)) return path / part;
  throw user_error("{}: no data set there (no manifest.json, nor {}/manifest.json); make one with 'xlstm data build'",
                   path.string(), part);
}

}  // namespace xlstm
