#include "data/dataset_writer.h"

#include <algorithm>

#include "core/hash.h"
#include "data/row_packing.h"

namespace xlstm {

namespace {

constexpr std::size_t kBufferBytes = std::size_t{1} << 20;

template <class T>
void append_number(std::string& buffer, T value) {  // little-endian, as every machine is that we build for
  buffer.append(reinterpret_cast<const char*>(&value), sizeof value);
}

ShardInfo shard_from(const Json& json, const fs::path& path) {
  ShardInfo s{.file = json_field<std::string>(json, "file", path),
              .tokens = json_field<i64>(json, "tokens", path),
              .documents = json_field<i64>(json, "documents", path),
              .tokens_xxh3 = json_field<std::string>(json, "tokens_xxh3", path),
              .docs_xxh3 = json_field<std::string>(json, "docs_xxh3", path)};
  if (!json.contains("rows")) return s;
  s.rows = json_field<i64>(json, "rows", path);
  s.pieces = json_field<i64>(json, "pieces", path);
  s.rows_xxh3 = json_field<std::string>(json, "rows_xxh3", path);
  return s;
}

void cut_back(const fs::path& path, i64 bytes) {
  std::error_code error;
  const auto found = fs::file_size(path, error);
  if (error || found < static_cast<std::uintmax_t>(bytes))
    throw user_error("{}: expected at least {} bytes of an unfinished build; delete {} and run again", path.string(),
                     bytes, path.parent_path().parent_path().string());
  fs::resize_file(path, static_cast<std::uintmax_t>(bytes), error);
  if (error) throw user_error("cannot cut {}: {}", path.string(), error.message());
}

std::string checksum_of(const fs::path& path) {
  const InputFile file(path);
  std::string piece(kBufferBytes, '\0');
  Xxh3 checksum;
  for (i64 at = 0; at < file.bytes();) {
    const i64 n = std::min(static_cast<i64>(piece.size()), file.bytes() - at);
    file.read(at, piece.data(), n);
    checksum.update(piece.data(), static_cast<std::size_t>(n));
    at += n;
  }
  return checksum.hex();
}

}  // namespace

DatasetWriter::DatasetWriter(fs::path folder, const TokenizerIdentity& tokenizer, i64 shard_tokens, i64 row_tokens)
    : folder_(std::move(folder)), tokenizer_model_(tokenizer.model), shard_tokens_(shard_tokens) {
  manifest_.tokenizer_sha256 = tokenizer.sha256;
  manifest_.vocab_size = tokenizer.vocab_size;
  manifest_.eod_id = tokenizer.eod_id;
  manifest_.row_tokens = row_tokens;
}

void DatasetWriter::add(std::span<const int> ids, i64 text_bytes, i64 token_bytes) {
  const i64 length = static_cast<i64>(ids.size()) + 1;
  if (!open_.file.empty() && open_.tokens + length > shard_tokens_) close_shard();
  if (open_.file.empty()) {
    open_.file = fmt::format("shard_{:05}", manifest_.shards.size());
    open_shard(false);
  }
  append_number(docs_buffer_, static_cast<std::uint64_t>(open_.tokens));
  const auto put = [&](int id) {
    if (manifest_.token_type() == TokenType::uint16)
      append_number(tokens_buffer_, static_cast<std::uint16_t>(id));
    else
      append_number(tokens_buffer_, static_cast<std::uint32_t>(id));
  };
  for (const int id : ids) put(id);
  put(static_cast<int>(manifest_.eod_id));
  open_.tokens += length;
  ++open_.documents;
  manifest_.text_bytes += text_bytes;
  manifest_.token_bytes += token_bytes;
  if (tokens_buffer_.size() + docs_buffer_.size() > kBufferBytes) write_out();
}

void DatasetWriter::open_shard(bool append) {
  std::error_code error;
  fs::create_directories(folder_, error);
  if (error) throw user_error("cannot make {}: {}", folder_.string(), error.message());
  tokens_file_.emplace(tokens_path(folder_, open_), append);
  docs_file_.emplace(docs_path(folder_, open_), append);
}

void DatasetWriter::write_out() {
  tokens_file_->write(tokens_buffer_);
  docs_file_->write(docs_buffer_);
  tokens_buffer_.clear();
  docs_buffer_.clear();
}

void DatasetWriter::close_files() {
  write_out();
  tokens_file_->close();
  docs_file_->close();
  tokens_file_.reset();
  docs_file_.reset();
}

void DatasetWriter::close_shard() {
  close_files();
  open_.tokens_xxh3 = checksum_of(tokens_path(folder_, open_));
  open_.docs_xxh3 = checksum_of(docs_path(folder_, open_));
  if (manifest_.row_tokens > 0) pack_shard();
  manifest_.shards.push_back(std::exchange(open_, {}));
}

void DatasetWriter::pack_shard() {
  std::vector<std::uint64_t> starts(static_cast<std::size_t>(open_.documents));
  InputFile(docs_path(folder_, open_)).read(0, starts.data(), open_.documents * 8);
  const PackedRows packed =
      pack_rows(starts, static_cast<std::uint64_t>(open_.tokens), static_cast<std::uint64_t>(manifest_.row_tokens));
  open_.rows = static_cast<i64>(packed.rows());
  open_.pieces = static_cast<i64>(packed.pieces.size());
  OutputFile file(rows_path(folder_, open_));
  const auto write = [&](const auto& numbers) {
    file.write({reinterpret_cast<const char*>(numbers.data()), numbers.size() * sizeof numbers[0]});
  };
  write(packed.first_piece);
  write(packed.pieces);
  file.close();
  open_.rows_xxh3 = checksum_of(rows_path(folder_, open_));
}

Json DatasetWriter::commit() {
  if (!open_.file.empty()) {
    close_files();
    fsync_directory(folder_);
    open_shard(true);
  }
  Json shards = Json::array();
  for (const ShardInfo& shard : manifest_.shards) shards.push_back(to_json(shard));
  return {{"shards", shards},
          {"open", to_json(open_)},
          {"text_bytes", manifest_.text_bytes},
          {"token_bytes", manifest_.token_bytes}};
}

void DatasetWriter::resume(const Json& state) {
  for (const Json& shard : json_field<Json>(state, "shards", folder_))
    manifest_.shards.push_back(shard_from(shard, folder_));
  manifest_.text_bytes = json_field<i64>(state, "text_bytes", folder_);
  manifest_.token_bytes = json_field<i64>(state, "token_bytes", folder_);
  open_ = shard_from(json_field<Json>(state, "open", folder_), folder_);
  if (open_.file.empty()) return;
  cut_back(tokens_path(folder_, open_), open_.tokens * size_of(manifest_.token_type()));
  cut_back(docs_path(folder_, open_), open_.documents * 8);
  open_shard(true);
}

Manifest DatasetWriter::finish() {
  if (!open_.file.empty()) close_shard();
  write_file_atomically(tokenizer_model_path(folder_), tokenizer_model_);
  write_file_atomically(manifest_path(folder_), manifest_.to_json().dump(2) + "\n");
  return manifest_;
}

}  // namespace xlstm
