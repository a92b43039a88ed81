#include "data/dataset.h"

#include <algorithm>

#include "core/hash.h"

namespace xlstm {

namespace {

// Throws when the file is not exactly as long as the manifest says.
MappedFile map_checked(const fs::path& path, i64 expected_bytes) {
  MappedFile file(path);
  const i64 found = static_cast<i64>(file.bytes().size());
  if (found != expected_bytes)
    throw user_error(
        "{}: {}: expected {} bytes, found {}; run 'xlstm data verify {}' for the rest, "
        "'xlstm data build --overwrite' makes it again",
        path.string(), found < expected_bytes ? "cut off" : "too long", expected_bytes, found,
        path.parent_path().string());
  return file;
}

void check_tokenizer(const fs::path& folder, const Manifest& manifest) {
  const fs::path file = tokenizer_model_path(folder);
  if (const std::string found = sha256_hex(read_file(file)); found != manifest.tokenizer_sha256)
    throw user_error(
        "{}: not the tokenizer of this data set: expected sha256 {}, found {}; put a copy of the right one there, or "
        "build the data set again",
        file.string(), manifest.tokenizer_sha256, found);
}

// A file is mapped at a page, so that its numbers are aligned.
template <class T>
const T* numbers(const MappedFile& file) {
  return reinterpret_cast<const T*>(file.bytes().data());
}

template <class F>
auto with_token_type(TokenType type, F&& f) {
  return type == TokenType::uint16 ? f.template operator()<std::uint16_t>() : f.template operator()<std::uint32_t>();
}

// Offset of the first id outside the vocabulary, or `count`.
template <class T>
i64 first_bad_id(const T* ids, i64 count, i64 vocab_size) {
  return std::find_if(ids, ids + count, [&](T id) { return static_cast<i64>(id) >= vocab_size; }) - ids;
}

[[noreturn]] void refuse_id(const fs::path& path, i64 offset, i64 id, i64 vocab_size) {
  throw user_error("{}: token {}: id {} is outside the vocabulary, expected 0 to {}; build the data set again",
                   path.string(), offset, id, vocab_size - 1);
}

void verify_checksum(const fs::path& path, const MappedFile& file, const std::string& expected) {
  const std::string found = xxh3_hex(file.bytes().data(), file.bytes().size());
  if (found != expected)
    throw user_error("{}: damaged: expected xxh3 {}, found {}; build the data set again", path.string(), expected,
                     found);
}

// Documents begin at 0, one right after the other, and each ends with the end-of-document id.
template <class T>
void verify_documents(const fs::path& path, const MappedFile& docs, const MappedFile& tokens, const ShardInfo& shard,
                      i64 eod_id) {
  const auto* starts = numbers<std::uint64_t>(docs);
  const T* ids = numbers<T>(tokens);
  const auto tokens_in_shard = static_cast<std::uint64_t>(shard.tokens);
  for (i64 d = 0; d < shard.documents; ++d) {
    const bool fits = d == 0 ? starts[0] == 0 : starts[d - 1] < starts[d] && starts[d] < tokens_in_shard;
    if (!fits)
      throw user_error("{}: byte {}: document {} starts at token {}, expected {}; build the data set again",
                       path.string(), d * 8, d, starts[d],
                       d == 0 ? "0" : fmt::format("{} to {}", starts[d - 1] + 1, tokens_in_shard - 1));
  }
  for (i64 d = 0; d < shard.documents; ++d) {
    const std::uint64_t end = d + 1 < shard.documents ? starts[d + 1] : tokens_in_shard;
    if (static_cast<i64>(ids[end - 1]) != eod_id)
      throw user_error("{}: byte {}: document {} does not end with the end-of-document id {}; build the data set again",
                       path.string(), d * 8, d, eod_id);
  }
}

template <class T>
void verify_shard(const fs::path& folder, const Manifest& manifest, const ShardInfo& shard) {
  const fs::path tokens_file = tokens_path(folder, shard), docs_file = docs_path(folder, shard);
  const MappedFile tokens = map_checked(tokens_file, shard.tokens * static_cast<i64>(sizeof(T)));
  const MappedFile docs = map_checked(docs_file, shard.documents * 8);
  const T* ids = numbers<T>(tokens);
  const i64 bad = first_bad_id(ids, shard.tokens, manifest.vocab_size);
  if (bad < shard.tokens) refuse_id(tokens_file, bad, static_cast<i64>(ids[bad]), manifest.vocab_size);
  verify_checksum(tokens_file, tokens, shard.tokens_xxh3);
  verify_documents<T>(docs_file, docs, tokens, shard, manifest.eod_id);
  verify_checksum(docs_file, docs, shard.docs_xxh3);
}

}  // namespace

Dataset Dataset::open(const fs::path& path, const std::string& part) {
  Dataset d;
  d.folder_ = resolve_dataset(path, part);
  d.manifest_ = Manifest::load(d.folder_);
  d.fingerprint_ = d.manifest_.fingerprint();
  check_tokenizer(d.folder_, d.manifest_);
  d.first_token_.push_back(0);
  for (const ShardInfo& shard : d.manifest_.shards) {
    d.shards_.push_back(map_checked(tokens_path(d.folder_, shard), shard.tokens * size_of(d.manifest_.token_type())));
    map_checked(docs_path(d.folder_, shard), shard.documents * 8);
    d.first_token_.push_back(d.first_token_.back() + shard.tokens);
  }
  return d;
}

double Dataset::text_bytes_per_token_byte() const {
  return manifest_.token_bytes == 0
             ? 1
             : static_cast<double>(manifest_.text_bytes) / static_cast<double>(manifest_.token_bytes);
}

void Dataset::read(i64 position, i64 count, std::int32_t* out) const {
  XL_CHECK(position >= 0 && count >= 0 && position <= total_tokens() - count, "tokens [{}, {}) of {}", position,
           position + count, total_tokens());
  auto shard = static_cast<std::size_t>(std::upper_bound(first_token_.begin(), first_token_.end(), position) -
                                        first_token_.begin() - 1);
  for (; count > 0; ++shard) {
    const i64 offset = position - first_token_[shard];
    const i64 n = std::min(count, first_token_[shard + 1] - position);
    with_token_type(manifest_.token_type(), [&]<class T>() {
      const T* ids = numbers<T>(shards_[shard]) + offset;
      if (const i64 bad = first_bad_id(ids, n, manifest_.vocab_size); bad < n)
        refuse_id(tokens_path(folder_, manifest_.shards[shard]), offset + bad, static_cast<i64>(ids[bad]),
                  manifest_.vocab_size);
      std::copy(ids, ids + n, out);
    });
    position += n;
    count -= n;
    out += n;
  }
}

void verify_dataset(const fs::path& folder, const std::function<void(i64 bytes)>& verified) {
  const Manifest manifest = Manifest::load(folder);
  check_tokenizer(folder, manifest);
  i64 bytes = 0;
  for (const ShardInfo& shard : manifest.shards) {
    with_token_type(manifest.token_type(), [&]<class T>() { verify_shard<T>(folder, manifest, shard); });
    bytes += shard.tokens * size_of(manifest.token_type()) + shard.documents * 8;
    if (verified) verified(bytes);
  }
}

}  // namespace xlstm
