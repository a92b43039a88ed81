#include "data/dataset_builder.h"

#include <algorithm>

#include "core/log.h"
#include "core/parallel.h"
#include "core/random.h"
#include "core/text.h"
#include "data/dataset.h"
#include "data/dataset_writer.h"
#include "data/encode_pipeline.h"

namespace xlstm {

namespace {

fs::path record_path(const fs::path& folder) { return folder / "build.json"; }

bool from_stdin(const std::vector<TextSource>& sources) {
  return std::any_of(sources.begin(), sources.end(), [](const TextSource& s) { return s.path == "-"; });
}

// Everything that decides what the result is. Files are known by path, size and time of last change.
Json description_of(const DatasetBuild& build, const Tokenizer& tokenizer, const std::vector<TextSource>& sources) {
  Json files = Json::array();
  for (const TextSource& s : sources)
    files.push_back({s.path == "-" ? "-" : fs::absolute(s.path).lexically_normal().string(), name_of(s.format), s.bytes,
                     s.modified_ns});
  Json description = {{"version", Manifest::kVersion},
                      {"tokenizer_sha256", tokenizer.sha256()},
                      {"validation_fraction", build.validation_fraction},
                      {"seed", build.seed},
                      {"shard_tokens", build.shard_tokens},
                      {"text_field", build.text.text_field},
                      {"document_separator", build.text.document_separator},
                      {"strict", build.text.strict},
                      {"files", std::move(files)}};
  if (build.row_tokens > 0) description["row_tokens"] = build.row_tokens;
  return description;
}

bool is_build(const fs::path& folder) {
  std::error_code ignored;
  return fs::is_regular_file(record_path(folder), ignored);
}

// Whether a build writes a file of this name, relative to its folder.
bool is_build_file(const fs::path& file) {
  const fs::path part = file.parent_path();
  std::string name = file.filename().string();
  if (name.ends_with(".tmp")) name.resize(name.size() - 4);
  if (part.empty()) return name == "build.json" || name == "lock";
  if (part != "train" && part != "validation") return false;
  return name == "manifest.json" || name == "tokenizer.model" ||
         (name.starts_with("shard_") &&
          (name.ends_with(".tokens") || name.ends_with(".docs") || name.ends_with(".rows")));
}

// All that lies in the folder of a build, what is inside a folder after it. UserError when something is not of a build:
// what is somebody else's is never deleted.
std::vector<fs::path> check_build_files(const fs::path& folder) {
  std::vector<fs::path> found;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    const fs::path name = entry.path().lexically_relative(folder);
    const bool ours =
        fs::is_directory(entry.symlink_status()) ? name == "train" || name == "validation" : is_build_file(name);
    if (!ours)
      throw user_error("{}: not of a data set, and would be lost; move it away, or choose another --out",
                       entry.path().string());
    found.push_back(entry.path());
  }
  return found;
}

fs::path lock_path(const fs::path& folder) { return folder / "lock"; }

// A folder in which builds work is empty or holds a lock from its first file to its last, and files of a build alone.
void check_working_folder(const fs::path& folder) {
  std::error_code ignored;
  if (!fs::exists(fs::symlink_status(folder, ignored))) return;
  if (!fs::is_directory(folder) || !(fs::is_empty(folder) || FileLock::made(lock_path(folder))))
    throw user_error(
        "{}: 'data build' works under this name, and something else is there; move it away, or choose another --out",
        folder.string());
  check_build_files(folder);
}

void clear_all_but_lock(const fs::path& folder) {
  std::vector<fs::path> files = check_build_files(folder);
  std::reverse(files.begin(), files.end());
  for (const fs::path& file : files)
    if (file != lock_path(folder)) fs::remove(file);
}

void remove_working_folder(const fs::path& folder) {
  check_working_folder(folder);
  if (!fs::exists(folder)) return;
  clear_all_but_lock(folder);
  fs::remove(lock_path(folder));
  fs::remove(folder);
}

// The record of a build, null when it is absent or damaged.
Json record_of(const fs::path& folder) {
  return is_build(folder) ? unsealed(read_file(record_path(folder))) : Json(nullptr);
}

// One build: where it writes, and how far it is.
class Builder {
 public:
  Builder(const DatasetBuild& build, const Tokenizer& tokenizer, std::vector<TextSource> sources)
      : build_(build),
        partial_(build.out.string() + ".partial"),
        replaced_(build.out.string() + ".replaced"),
        description_(description_of(build, tokenizer, sources)),
        repeatable_(!from_stdin(sources)),
        total_bytes_(total_bytes(sources)),
        tokenizer_(tokenizer),
        reader_(std::move(sources), build.text),
        train_(partial_ / "train", tokenizer.identity(), build.shard_tokens, build.row_tokens),
        validation_(partial_ / "validation", tokenizer.identity(), build.shard_tokens, build.row_tokens) {}

  bool already_built() const { return is_same_build(record_of(build_.out)); }
  DatasetBuildResult run();

 private:
  bool is_same_build(const Json& record) const;
  std::string difference_from(const Json& record) const;
  void check_target() const;
  void open_partial();
  void skip_to(i64 documents, Progress& progress);
  void encode(Progress& progress);
  void add(const EncodedBatch& batch);
  void commit();
  void publish() const;

  const DatasetBuild& build_;
  fs::path partial_, replaced_;
  Json description_;
  bool repeatable_;
  i64 total_bytes_;
  const Tokenizer& tokenizer_;
  DocumentReader reader_;
  DatasetWriter train_, validation_;
  i64 documents_ = 0;
  i64 text_bytes_since_commit_ = 0;
};

bool Builder::is_same_build(const Json& record) const {
  return repeatable_ && record.is_object() && record.value("description", Json()) == description_;
}

// "another --seed and other input"
std::string Builder::difference_from(const Json& record) const {
  const Json was = record.is_object() ? record.value("description", Json()) : Json();
  if (!was.is_object()) return "an unknown command (its build.json is damaged)";
  if (!repeatable_) return "another input: what comes from stdin is never known again";
  std::string text;
  for (const auto& [key, option] : {std::pair{"tokenizer_sha256", "another --tokenizer"},
                                    {"validation_fraction", "another --validation-fraction"},
                                    {"seed", "another --seed"},
                                    {"shard_tokens", "another --shard-tokens"},
                                    {"row_tokens", "another --packing or --context"},
                                    {"text_field", "another --text-field"},
                                    {"document_separator", "another --document-separator"},
                                    {"strict", "another --strict"},
                                    {"files", "other input (files, or their size or time)"}})
    if (was.value(key, Json()) != description_.value(key, Json()))
      text += (text.empty() ? "" : " and ") + std::string(option);
  return text.empty() ? "another version of this program" : text;
}

void Builder::check_target() const {
  std::error_code ignored;
  const std::string out = build_.out.string();
  if (!fs::exists(build_.out, ignored)) return;
  if (!fs::is_directory(build_.out, ignored)) throw user_error("{}: --out expects a folder, this is a file", out);
  if (fs::is_empty(build_.out, ignored)) return;
  if (!is_build(build_.out)) throw user_error("{}: holds something that is no data set; choose another --out", out);
  if (!build_.overwrite)
    throw user_error("{}: holds a data set built with {}; choose another --out, or replace it with --overwrite", out,
                     difference_from(record_of(build_.out)));
  check_build_files(build_.out);
}

// Takes over what an interrupted build left, when it was the same build; clears it away otherwise.
void Builder::open_partial() {
  const Json record = record_of(partial_);
  if (is_same_build(record)) {
    train_.resume(json_field<Json>(record, "train", record_path(partial_)));
    validation_.resume(json_field<Json>(record, "validation", record_path(partial_)));
    documents_ = json_field<i64>(record, "documents", record_path(partial_));
    return;
  }
  if (is_build(partial_))
    log_info("{}: unfinished build with {}; starting over", partial_.string(), difference_from(record));
  clear_all_but_lock(partial_);
}

DatasetBuildResult Builder::run() {
  check_target();
  check_working_folder(partial_);
  check_working_folder(replaced_);
  std::error_code error;
  fs::create_directories(partial_, error);
  if (error) throw user_error("cannot make {}: {}", partial_.string(), error.message());
  const FileLock lock(lock_path(partial_), partial_.string());
  open_partial();

  DatasetBuildResult result;
  result.resumed_documents = documents_;
  Progress progress("encoding", static_cast<double>(total_bytes_), "B");
  skip_to(documents_, progress);
  encode(progress);
  progress.finish();
  result.read = reader_.stats();
  if (train_.documents() == 0) {
    remove_working_folder(partial_);
    if (documents_ > 0)
      throw user_error("--validation-fraction {}: all {} documents fell to validation; choose a smaller one",
                       build_.validation_fraction, documents_);
    const std::string mended = mended_summary(result.read);
    throw user_error("{}: holds no text{}{}", name_of_input(build_.inputs.front()), mended.empty() ? "" : ": ", mended);
  }
  result.train = train_.finish();
  if (validation_.documents() > 0)
    result.validation = validation_.finish();
  else if (build_.validation_fraction > 0)
    log_warning(
        "no validation set: none of the {} documents fell into the share of {}; raise --validation-fraction, or "
        "cut the text into documents with --document-separator",
        documents_, build_.validation_fraction);
  commit();
  publish();
  return result;
}

void Builder::skip_to(i64 documents, Progress& progress) {
  if (documents == 0) return;
  log_info("going on after {} that an interrupted build has done", counted(documents, "document"));
  Document document;
  for (i64 i = 0; i < documents; ++i) {
    if (!reader_.next(document))
      throw user_error("{}: ended before what was built of it", name_of_input(build_.inputs.front()));
    progress.update(static_cast<double>(reader_.packed_bytes_read()));
  }
}

void Builder::encode(Progress& progress) {
  EncodePipeline pipeline(reader_, tokenizer_, build_.threads > 0 ? build_.threads : usable_cores());
  EncodedBatch batch;
  while (pipeline.next(batch)) {
    add(batch);
    progress.update(static_cast<double>(batch.packed_bytes), counted(documents_, "document"));
    if (text_bytes_since_commit_ >= build_.commit_bytes) commit();
  }
}

void Builder::add(const EncodedBatch& batch) {
  const RandomStream random(build_.seed, RandomUse::validation_split);
  for (const EncodedBatch::Entry& entry : batch.documents) {
    const bool validate = random.uniform(static_cast<std::uint64_t>(documents_++)) < build_.validation_fraction;
    (validate ? validation_ : train_).add(batch.ids_of(entry), entry.text_bytes, entry.token_bytes);
    text_bytes_since_commit_ += entry.text_bytes;
  }
}

void Builder::commit() {
  Json record = {{"description", description_}, {"documents", documents_}};
  record["train"] = train_.commit();
  record["validation"] = validation_.commit();
  write_file_atomically(record_path(partial_), sealed(record));
  text_bytes_since_commit_ = 0;
}

// The folder takes its name only now, and stays locked until it has it. What stood there goes away only after; its own
// lock tells whoever is killed meanwhile, or rather the next build, that it may go.
void Builder::publish() const {
  std::optional<FileLock> old;
  if (build_.overwrite && is_build(build_.out)) {
    check_build_files(build_.out);
    remove_working_folder(replaced_);
    old.emplace(lock_path(build_.out), build_.out.string());
    rename_path(build_.out, replaced_);
  }
  rename_path(partial_, build_.out);
  fsync_directory(build_.out.parent_path().empty() ? "." : build_.out.parent_path());
  remove_tree(lock_path(build_.out));
  remove_working_folder(replaced_);
}

}  // namespace

DatasetBuildResult build_dataset(const DatasetBuild& request) {
  DatasetBuild build = request;
  if (build.out.empty()) throw user_error("--out: is empty; name the folder to make");
  if (build.out.filename().empty()) build.out = build.out.parent_path();  // "folder/"
  if (!(build.validation_fraction >= 0 && build.validation_fraction < 1))
    throw user_error("--validation-fraction {}: expected 0 to less than 1", build.validation_fraction);
  if (build.shard_tokens <= 0) throw user_error("--shard-tokens {}: expected a positive number", build.shard_tokens);
  if (build.row_tokens < 0 || build.row_tokens > kMostRowTokens)
    throw user_error("--context {}: expected 1 to {} tokens", build.row_tokens, kMostRowTokens);
  const Tokenizer tokenizer = Tokenizer::load(build.tokenizer);
  Builder builder(build, tokenizer, find_sources(build.inputs, build.text));
  try {
    if (build.overwrite || !builder.already_built()) return builder.run();
  } catch (const fs::filesystem_error& e) {
    throw user_error("cannot write {}: {}", e.path1().string(), e.code().message());
  }
  DatasetBuildResult result;
  result.already_built = true;
  result.train = Dataset::open(build.out, "train").manifest();
  std::error_code ignored;
  if (fs::exists(manifest_path(build.out / "validation"), ignored))
    result.validation = Dataset::open(build.out, "validation").manifest();
  return result;
}

}  // namespace xlstm
