#include "data/dataset_import.h"

#include <algorithm>
#include <memory>

#include "core/hash.h"
#include "core/log.h"
#include "core/random.h"
#include "core/text.h"
#include "data/dataset_writer.h"

namespace xlstm {

namespace {

constexpr i64 kPiece = i64{1} << 20;  // tokens read at a time

using Files = std::vector<std::unique_ptr<TokenFile>>;

Files open_files(const DatasetImport& request) {
  Files files;
  for (const std::string& input : request.inputs) {
    if (fs::is_directory(input)) throw user_error("{}: is a folder; name the files, in their order", input);
    files.push_back(std::make_unique<TokenFile>(input, request.as));
    if (std::string_view(files.back()->kind()) != files.front()->kind())
      throw user_error("{}: a {} file, but {} is a {} file; import them apart", input, files.back()->kind(),
                       request.inputs.front(), files.front()->kind());
  }
  return files;
}

// What the options say, then what the tokenizer says, then what the format says.
i64 agreed(const char* option, const std::optional<i64>& said, const std::optional<i64>& known, const char* by) {
  if (said && known && *said != *known)
    throw user_error("{} {}: {} says {}; leave the option out", option, *said, by, *known);
  if (!said && !known)
    throw user_error("{}: is needed; neither the files nor a SentencePiece tokenizer (--tokenizer) tell it", option);
  return said ? *said : *known;
}

// A file that is no SentencePiece model, or a line of our own, names a vocabulary as well: it is known by its sha256.
TokenizerIdentity identity_of(const DatasetImport& request, const TokenFile& file) {
  if (!request.tokenizer.empty() && Tokenizer::is_model(request.tokenizer)) {
    TokenizerIdentity t = Tokenizer::load(request.tokenizer).identity();
    agreed("--vocab-size", request.vocab_size, t.vocab_size, "the tokenizer");
    agreed("--eod-id", request.eod_id, t.eod_id, "the tokenizer");
    return t;
  }
  TokenizerIdentity t;
  std::optional<i64> size, eod;
  if (const auto& known = file.vocabulary()) {
    size = known->size;
    eod = known->eod;
  }
  t.vocab_size = agreed("--vocab-size", request.vocab_size, size, "the file's format");
  t.eod_id = agreed("--eod-id", request.eod_id, eod, "the file's format");
  if (t.vocab_size < 2 || t.vocab_size > i64{1} << 31 || t.eod_id < 0 || t.eod_id >= t.vocab_size)
    throw user_error("--eod-id {}: expected an id of the vocabulary of {}", t.eod_id, t.vocab_size);
  if (!request.tokenizer.empty())
    t.model = read_file(request.tokenizer);
  else if (file.vocabulary())
    t.model = fmt::format("vocabulary: {}\n", file.vocabulary()->name);
  else
    throw user_error("--tokenizer: name the tokenizer's file, of whatever kind: runs know their vocabulary by it");
  t.sha256 = sha256_hex(t.model);
  return t;
}

// Cuts a stream of ids into documents.
class Importer {
 public:
  Importer(const DatasetImport& request, const TokenizerIdentity& tokenizer, const fs::path& partial)
      : request_(request),
        eod_(static_cast<std::int32_t>(tokenizer.eod_id)),
        vocab_size_(tokenizer.vocab_size),
        train_(partial / "train", tokenizer, request.shard_tokens),
        validation_(partial / "validation", tokenizer, request.shard_tokens),
        bytes_of_(tokenizer.token_bytes) {}

  void add_file(const TokenFile& file, Progress& progress) {
    std::vector<std::int32_t> ids;
    auto bound = file.document_ends().begin();
    for (i64 at = 0; at < file.tokens();) {
      const i64 n = std::min(kPiece, file.tokens() - at);
      ids.resize(static_cast<std::size_t>(n));
      file.read(at, n, vocab_size_, ids.data());
      for (const std::int32_t id : ids) {
        for (; bound != file.document_ends().end() && *bound == at; ++bound) end_document();
        add(id);
        ++at;
      }
      progress.add(static_cast<double>(n));
    }
    if (!file.document_ends().empty()) end_document();
  }

  DatasetImportResult finish() {
    end_document();
    if (train_.documents() == 0)
      throw user_error(
          "{}: {}", request_.inputs.front(),
          documents_ == 0 ? "holds no documents" : "all documents fell to validation; lower --validation-fraction");
    DatasetImportResult result{.train = train_.finish(), .validation = std::nullopt, .empty_documents = empty_};
    if (validation_.documents() > 0) result.validation = validation_.finish();
    return result;
  }

 private:
  // The end of a document may stand after every one, or before: either way it parts two of them.
  void add(std::int32_t id) {
    if (id != eod_) return document_.push_back(id);
    if (document_.empty() && last_was_eod_) ++empty_;
    end_document();
    last_was_eod_ = true;
  }

  void end_document() {
    last_was_eod_ = false;
    if (document_.empty()) return;
    i64 bytes = 0;
    if (!bytes_of_.empty())
      for (const int id : document_) bytes += bytes_of_[static_cast<std::size_t>(id)];
    const RandomStream random(request_.seed, RandomUse::validation_split);
    const bool validate = random.uniform(static_cast<std::uint64_t>(documents_++)) < request_.validation_fraction;
    (validate ? validation_ : train_).add(document_, bytes, bytes);
    document_.clear();
  }

  const DatasetImport& request_;
  std::int32_t eod_;
  i64 vocab_size_;
  DatasetWriter train_, validation_;
  std::vector<int> bytes_of_;
  std::vector<int> document_;
  bool last_was_eod_ = false;
  i64 documents_ = 0, empty_ = 0;
};

void check_request(const DatasetImport& r) {
  if (!(r.validation_fraction >= 0 && r.validation_fraction < 1))
    throw user_error("--validation-fraction {}: expected 0 to less than 1", r.validation_fraction);
  std::error_code ignored;
  if (fs::exists(r.out, ignored) && !(fs::is_directory(r.out, ignored) && fs::is_empty(r.out, ignored)))
    throw user_error("--out {}: is there already; name a folder that is not", r.out.string());
}

}  // namespace

DatasetImportResult import_dataset(const DatasetImport& given) {
  DatasetImport request = given;
  if (request.out.filename().empty()) request.out = request.out.parent_path();  // "folder/"
  check_request(request);
  const Files files = open_files(request);
  const TokenizerIdentity tokenizer = identity_of(request, *files.front());
  double total = 0;
  for (const auto& file : files) total += static_cast<double>(file->tokens());

  const fs::path partial = request.out.string() + ".partial";
  std::error_code ignored;
  if (fs::exists(partial, ignored))
    throw user_error("{}: is there already; move it away, or choose another --out", partial.string());
  try {
    make_directory(partial);
    Importer importer(request, tokenizer, partial);
    Progress progress("importing", total, " tokens");
    for (const auto& file : files) importer.add_file(*file, progress);
    progress.finish();
    DatasetImportResult result = importer.finish();
    if (!result.validation && request.validation_fraction > 0)
      log_warning("no validation set: no document fell into the share of {}; raise --validation-fraction",
                  request.validation_fraction);
    remove_tree(request.out);  // empty
    rename_path(partial, request.out);
    return result;
  } catch (...) {
    fs::remove_all(partial, ignored);
    throw;
  }
}

}  // namespace xlstm
