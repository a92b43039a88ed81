#include "data/dataset.h"

#include <sys/resource.h>

#include <algorithm>

#include "core/hash.h"

namespace xlstm {

namespace {

// Refuses a file that is not exactly as long as the manifest says.
std::unique_ptr<InputFile> open_checked(const fs::path& path, i64 expected_bytes) {
  auto file = std::make_unique<InputFile>(path);
  const i64 found = file->bytes();
  if (found != expected_bytes)
    throw user_error(
        "{}: {}: expected {} bytes, found {}; run 'xlstm data verify {}' for the rest, "
        "'xlstm data build --overwrite' makes it again",
        path.string(), found < expected_bytes ? "cut off" : "too long", expected_bytes, found,
        path.parent_path().string());
  return file;
}

std::size_t open_files_of_this_process() {
  std::error_code none;
  return static_cast<std::size_t>(std::distance(fs::directory_iterator("/proc/self/fd", none), {}));
}

// Every file of a shard stays open, so that a data set that is replaced meanwhile stays the same.
void check_open_files(const fs::path& folder, std::size_t files) {
  constexpr rlim_t kOthers = 16;  // that a run opens besides: metrics, checkpoints
  const std::size_t open = open_files_of_this_process();
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || open + files + kOthers <= limit.rlim_cur) return;
  throw user_error(
      "{}: {} files of shards, each of which is kept open, but a process may have only {} files open here, and {} are; "
      "raise that limit ('ulimit -Hn'), or build data sets with fewer, larger shards (--shard-tokens)",
      folder.string(), files, limit.rlim_cur, open);
}

// A file that was cut off since it was opened is the user's to mend, like damaged bytes.
template <class T>
void read_numbers(const InputFile& file, i64 first, i64 count, T* out) {
  constexpr i64 kWidth = sizeof(T);
  try {
    file.read(first * kWidth, out, count * kWidth);
  } catch (const UserError& e) {
    throw user_error("{}; restore the file, or build the data set again", e.what());
  }
}

void check_tokenizer(const fs::path& folder, const Manifest& manifest) {
  const fs::path file = tokenizer_model_path(folder);
  if (const std::string found = sha256_hex(read_file(file)); found != manifest.tokenizer_sha256)
    throw user_error(
        "{}: not the tokenizer of this data set: expected sha256 {}, found {}; put a copy of the right one there, or "
        "build the data set again",
        file.string(), manifest.tokenizer_sha256, found);
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

void verify_checksum(const fs::path& path, const std::string& found, const std::string& expected) {
  if (found != expected)
    throw user_error("{}: damaged: expected xxh3 {}, found {}; build the data set again", path.string(), expected,
                     found);
}

// Documents begin at 0, one right after the other.
void verify_starts(const fs::path& path, const std::vector<std::uint64_t>& starts, std::uint64_t tokens) {
  for (std::size_t d = 0; d < starts.size(); ++d) {
    const bool fits = d == 0 ? starts[0] == 0 : starts[d - 1] < starts[d] && starts[d] < tokens;
    if (!fits)
      throw user_error("{}: byte {}: document {} starts at token {}, expected {}; build the data set again",
                       path.string(), d * 8, d, starts[d],
                       d == 0 ? "0" : fmt::format("{} to {}", starts[d - 1] + 1, tokens - 1));
  }
}

struct TokensRead {
  std::string xxh3;
  std::size_t first_open_document;  // that does not end with the end-of-document id; their number where all do
};

// All ids of a shard, which must be of the vocabulary.
template <class T>
TokensRead read_all_tokens(const InputFile& file, const Manifest& manifest, i64 tokens,
                           const std::vector<std::uint64_t>& starts) {
  constexpr i64 kPiece = 1 << 20;
  std::vector<T> ids(static_cast<std::size_t>(std::min(kPiece, tokens)));
  Xxh3 checksum;
  TokensRead result{"", starts.size()};
  std::size_t document = 0;
  for (i64 begin = 0; begin < tokens; begin += kPiece) {
    const i64 n = std::min(kPiece, tokens - begin);
    read_numbers(file, begin, n, ids.data());
    if (const i64 bad = first_bad_id(ids.data(), n, manifest.vocab_size); bad < n)
      refuse_id(file.path(), begin + bad, static_cast<i64>(ids[static_cast<std::size_t>(bad)]), manifest.vocab_size);
    checksum.update(ids.data(), static_cast<std::size_t>(n) * sizeof(T));
    for (; document < starts.size(); ++document) {
      const i64 last = (document + 1 < starts.size() ? static_cast<i64>(starts[document + 1]) : tokens) - 1;
      if (last >= begin + n) break;
      if (static_cast<i64>(ids[static_cast<std::size_t>(last - begin)]) != manifest.eod_id)
        result.first_open_document = std::min(result.first_open_document, document);
    }
  }
  result.xxh3 = checksum.hex();
  return result;
}

void verify_rows(const fs::path& path, const Manifest& manifest, const ShardInfo& shard,
                 const std::vector<std::uint64_t>& starts) {
  const auto file = open_checked(path, shard.rows_bytes());
  PackedRows rows;
  rows.first_piece.resize(static_cast<std::size_t>(shard.rows) + 1);
  rows.pieces.resize(static_cast<std::size_t>(shard.pieces));
  read_numbers(*file, 0, shard.rows + 1, rows.first_piece.data());
  read_numbers(*file, shard.rows + 1, 2 * shard.pieces, &rows.pieces[0].begin);
  Xxh3 checksum;
  checksum.update(rows.first_piece.data(), rows.first_piece.size() * 8);
  checksum.update(rows.pieces.data(), rows.pieces.size() * sizeof(RowPiece));
  verify_checksum(path, checksum.hex(), shard.rows_xxh3);
  const std::string fault =
      fault_of(rows, starts, static_cast<std::uint64_t>(shard.tokens), static_cast<std::uint64_t>(manifest.row_tokens));
  if (!fault.empty()) throw user_error("{}: {}; build the data set again", path.string(), fault);
}

template <class T>
void verify_shard(const fs::path& folder, const Manifest& manifest, const ShardInfo& shard) {
  const fs::path tokens_file = tokens_path(folder, shard), docs_file = docs_path(folder, shard);
  const auto tokens = open_checked(tokens_file, shard.tokens * static_cast<i64>(sizeof(T)));
  const auto docs = open_checked(docs_file, shard.documents * 8);
  std::vector<std::uint64_t> starts(static_cast<std::size_t>(shard.documents));
  read_numbers(*docs, 0, shard.documents, starts.data());
  verify_starts(docs_file, starts, static_cast<std::uint64_t>(shard.tokens));
  const TokensRead read = read_all_tokens<T>(*tokens, manifest, shard.tokens, starts);
  verify_checksum(tokens_file, read.xxh3, shard.tokens_xxh3);
  if (const std::size_t d = read.first_open_document; d < starts.size())
    throw user_error("{}: byte {}: document {} does not end with the end-of-document id {}; build the data set again",
                     docs_file.string(), d * 8, d, manifest.eod_id);
  verify_checksum(docs_file, xxh3_hex(starts.data(), starts.size() * 8), shard.docs_xxh3);
  if (manifest.row_tokens > 0) verify_rows(rows_path(folder, shard), manifest, shard, starts);
}

// The shard that holds element `position`, by the first one of each.
std::size_t shard_of(const std::vector<i64>& first, i64 position) {
  return static_cast<std::size_t>(std::upper_bound(first.begin(), first.end(), position) - first.begin() - 1);
}

}  // namespace

Dataset Dataset::open(const fs::path& path, const std::string& part) {
  Dataset d;
  d.folder_ = resolve_dataset(path, part);
  d.manifest_ = Manifest::load(d.folder_);
  d.fingerprint_ = d.manifest_.fingerprint();
  check_tokenizer(d.folder_, d.manifest_);
  const bool packed = d.manifest_.row_tokens > 0;
  check_open_files(d.folder_, d.manifest_.shards.size() * (packed ? 2 : 1));
  d.first_token_.push_back(0);
  d.first_row_.push_back(0);
  for (const ShardInfo& shard : d.manifest_.shards) {
    d.shards_.push_back(open_checked(tokens_path(d.folder_, shard), shard.tokens * size_of(d.manifest_.token_type())));
    open_checked(docs_path(d.folder_, shard), shard.documents * 8);
    d.first_token_.push_back(d.first_token_.back() + shard.tokens);
    if (packed) d.row_files_.push_back(open_checked(rows_path(d.folder_, shard), shard.rows_bytes()));
    d.first_row_.push_back(d.first_row_.back() + shard.rows);
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
  std::size_t shard = shard_of(first_token_, position);
  for (; count > 0; ++shard) {
    const i64 offset = position - first_token_[shard];
    const i64 n = std::min(count, first_token_[shard + 1] - position);
    with_token_type(manifest_.token_type(), [&]<class T>() {
      std::vector<T> ids(static_cast<std::size_t>(n));
      read_numbers(*shards_[shard], offset, n, ids.data());
      if (const i64 bad = first_bad_id(ids.data(), n, manifest_.vocab_size); bad < n)
        refuse_id(shards_[shard]->path(), offset + bad, static_cast<i64>(ids[static_cast<std::size_t>(bad)]),
                  manifest_.vocab_size);
      std::copy(ids.begin(), ids.end(), out);
    });
    position += n;
    count -= n;
    out += n;
  }
}

std::vector<RowPiece> Dataset::row(i64 number) const {
  XL_CHECK(number >= 0 && number < first_row_.back(), "row {} of {}", number, first_row_.back());
  const std::size_t at = shard_of(first_row_, number);
  const ShardInfo& shard = manifest_.shards[at];
  const i64 row = number - first_row_[at];
  const auto refuse = [&] {
    throw user_error("{}: row {}: does not fit the shard; build the data set again", row_files_[at]->path().string(),
                     row);
  };
  std::uint64_t ends[2];
  read_numbers(*row_files_[at], row, 2, ends);
  const auto most = static_cast<std::uint64_t>(std::min(shard.pieces, manifest_.row_tokens));
  if (ends[0] >= ends[1] || ends[1] > static_cast<std::uint64_t>(shard.pieces) || ends[1] - ends[0] > most) refuse();
  std::vector<RowPiece> pieces(ends[1] - ends[0]);
  read_numbers(*row_files_[at], shard.rows + 1 + 2 * static_cast<i64>(ends[0]), 2 * static_cast<i64>(pieces.size()),
               &pieces[0].begin);
  auto room = static_cast<std::uint64_t>(manifest_.row_tokens);
  const auto tokens = static_cast<std::uint64_t>(shard.tokens);
  for (RowPiece& piece : pieces) {
    if (piece.length == 0 || piece.length > room || piece.begin >= tokens || piece.length > tokens - piece.begin)
      refuse();
    room -= piece.length;
    piece.begin += static_cast<std::uint64_t>(first_token_[at]);
  }
  return pieces;
}

void Dataset::verify_rows() const {
  std::vector<std::uint64_t> numbers(std::size_t{1} << 17);
  for (std::size_t s = 0; s < row_files_.size(); ++s) {
    const i64 all = manifest_.shards[s].rows_bytes() / 8;
    Xxh3 checksum;
    for (i64 begin = 0; begin < all; begin += static_cast<i64>(numbers.size())) {
      const i64 n = std::min(static_cast<i64>(numbers.size()), all - begin);
      read_numbers(*row_files_[s], begin, n, numbers.data());
      checksum.update(numbers.data(), static_cast<std::size_t>(n) * 8);
    }
    verify_checksum(row_files_[s]->path(), checksum.hex(), manifest_.shards[s].rows_xxh3);
  }
}

void verify_dataset(const fs::path& folder, const std::function<void(i64 bytes)>& verified) {
  const Manifest manifest = Manifest::load(folder);
  check_tokenizer(folder, manifest);
  i64 bytes = 0;
  for (const ShardInfo& shard : manifest.shards) {
    with_token_type(manifest.token_type(), [&]<class T>() { verify_shard<T>(folder, manifest, shard); });
    bytes += manifest.bytes_of(shard);
    if (verified) verified(bytes);
  }
}

}  // namespace xlstm
