// xlstm data build | info | verify; data_import.cpp has import
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <memory>

#include "core/log.h"
#include "core/profile.h"
#include "core/text.h"
#include "data/dataset.h"
#include "data/dataset_builder.h"
#include "tools/commands.h"
#include "tools/data_summary.h"
#include "tools/text_flags.h"

namespace xlstm {

namespace {

// The data sets of a folder: itself, or its train and validation parts.
std::vector<fs::path> parts_of(const fs::path& folder) {
  std::vector<fs::path> parts = {resolve_dataset(folder)};
  std::error_code ignored;
  if (parts[0] != folder && fs::exists(manifest_path(folder / "validation"), ignored))
    parts.push_back(folder / "validation");
  return parts;
}

std::string part_name(const fs::path& part) { return (part.filename().empty() ? part.parent_path() : part).filename(); }

// A signal ends a build at once, which loses nothing, and this says so.
class InterruptNotice {
 public:
  explicit InterruptNotice(const DatasetBuild& build) {
    const bool again = std::find(build.inputs.begin(), build.inputs.end(), "-") == build.inputs.end();
    text_ = fmt::format("{}interrupted: {}\n", stderr_is_terminal() ? "\r\033[K" : "",
                        again ? "run the same command again to go on"
                              : "what came from stdin cannot be continued; the same command starts over");
    for (const int signal : kSignals) set(signal, tell);
  }
  ~InterruptNotice() {
    for (const int signal : kSignals) set(signal, SIG_DFL);
  }
  InterruptNotice(const InterruptNotice&) = delete;
  InterruptNotice& operator=(const InterruptNotice&) = delete;

 private:
  static constexpr int kSignals[] = {SIGINT, SIGTERM};
  static inline std::string text_;

  // What a shell ignores for a program in the background stays ignored.
  static void set(int signal, void (*handler)(int)) {
    if (std::signal(signal, handler) == SIG_IGN) std::signal(signal, SIG_IGN);
  }

  static void tell(int signal) {
    [[maybe_unused]] const ssize_t ignored = ::write(STDERR_FILENO, text_.data(), text_.size());
    std::signal(signal, SIG_DFL);
    raise(signal);
  }
};

struct BuildFlags {
  DatasetBuild build;
  std::string tokenizer, out;
  std::string packing = "concat";
  i64 context = 0;
  bool json = false;
};

void build(BuildFlags& f) {
  const Timer timer;
  f.build.tokenizer = f.tokenizer;
  f.build.out = f.out;
  if ((f.packing == "first_fit") != (f.context > 0))
    throw user_error("--packing {}, --context {}: first_fit needs a context, the train.context_length, and concat none",
                     f.packing, f.context);
  f.build.row_tokens = f.context;
  const DatasetBuildResult result = [&] {
    const InterruptNotice notice(f.build);
    return build_dataset(f.build);
  }();
  if (result.already_built) log_info("{}: already built from this input with these options", f.out);
  if (const std::string mended = mended_summary(result.read); !mended.empty()) log_warning("{}", mended);
  Json json = {{"out", f.out},
               {"already_built", result.already_built},
               {"resumed_documents", result.resumed_documents},
               {"seconds", timer.seconds()},
               {"invalid_utf8_documents", result.read.invalid_utf8_documents},
               {"malformed_lines", result.read.malformed_lines},
               {"empty_documents", result.read.empty_documents},
               {"train", summary_of(result.train)}};
  std::string text = table_head() + row_of("train", result.train);
  if (result.validation) {
    json["validation"] = summary_of(*result.validation);
    text += row_of("validation", *result.validation);
  }
  text += rows_of("train", result.train);
  if (result.validation) text += rows_of("validation", *result.validation);
  print_result(f.json, json, text);
}

void add_build(CLI::App& app) {
  auto f = std::make_shared<BuildFlags>();
  DatasetBuild& b = f->build;
  CLI::App* cmd =
      app.add_subcommand("build", "Text in, token shards out: OUT/train and OUT/validation. A re-run continues.");
  cmd->add_option("inputs", b.inputs, "Text: .txt, .jsonl, each also .gz or .zst; folders; '-' for stdin")
      ->required()
      ->check(not_empty("a file, a folder, or '-' for stdin"));
  cmd->add_option("--tokenizer", f->tokenizer, "Made by 'xlstm tokenizer train'")
      ->required()
      ->check(not_empty("a file"));
  cmd->add_option("--out", f->out, "The folder to make")->required()->check(not_empty("a folder"));
  cmd->add_option("--validation-fraction", b.validation_fraction,
                  "Share of the documents to keep for validation; 0 = none")
      ->capture_default_str();
  cmd->add_option("--seed", b.seed, "Of the choice of validation documents")->check(at_least(0))->capture_default_str();
  cmd->add_option("--shard-tokens", b.shard_tokens, "Most tokens of a shard")->capture_default_str();
  cmd->add_option(
         "--packing", f->packing,
         "concat: a stream, which any context length cuts; first_fit: also whole documents in rows of --context")
      ->check(CLI::IsMember({"concat", "first_fit"}))
      ->capture_default_str();
  cmd->add_option("--context", f->context, "Tokens of a row, with --packing first_fit")
      ->check(at_least(1, kMostRowTokens));
  cmd->add_option("--threads", b.threads, "0 = all cores; the result does not depend on it")
      ->check(at_least(0, kMostThreads))
      ->capture_default_str();
  cmd->add_flag("--overwrite", b.overwrite, "Replace a data set that stands at OUT");
  cmd->add_flag("--json", f->json, "The result as one JSON object");
  add_text_flags(*cmd, b.text);
  cmd->footer(
      "Example: xlstm data build --tokenizer tok.model --out data/wiki wiki.jsonl.zst\n"
      "         zcat *.gz | xlstm data build --tokenizer tok.model --out data/all --as jsonl -");
  cmd->callback([f] { build(*f); });
}

struct FolderFlags {
  std::string folder;
  bool json = false;
};

void info(const FolderFlags& f) {
  Json json = {{"folder", f.folder}};
  std::string text = table_head(), rows;
  for (const fs::path& part : parts_of(f.folder)) {
    const Dataset data = Dataset::open(part);
    json[part_name(part)] = summary_of(data.manifest());
    text += row_of(part_name(part), data.manifest());
    rows += rows_of(part_name(part), data.manifest());
    if (part == parts_of(f.folder).back())
      text += fmt::format("vocabulary {}, {} per token, tokenizer {}\n", data.vocab_size(),
                          human_bytes(size_of(data.manifest().token_type())), data.tokenizer_sha256().substr(0, 16));
  }
  print_result(f.json, json, text + rows);
}

void verify(const FolderFlags& f) {
  Json json = {{"folder", f.folder}, {"ok", true}};
  std::string text;
  for (const fs::path& part : parts_of(f.folder)) {
    const Manifest manifest = Manifest::load(part);
    const i64 bytes = manifest.bytes();
    Progress progress("verifying " + part.string(), static_cast<double>(bytes), "B");
    verify_dataset(part, [&](i64 done) { progress.update(static_cast<double>(done)); });
    progress.finish();
    json[part_name(part)] = {{"bytes", bytes}, {"fingerprint", manifest.fingerprint()}};
    text += fmt::format("{}: all of {} is as it was written\n", part.string(), human_bytes(bytes));
  }
  print_result(f.json, json, text);
}

void add_folder_command(CLI::App& app, const std::string& name, const std::string& what,
                        void (*run)(const FolderFlags&)) {
  auto f = std::make_shared<FolderFlags>();
  CLI::App* cmd = app.add_subcommand(name, what);
  cmd->add_option("folder", f->folder, "Made by 'xlstm data build'")->required()->check(not_empty("a folder"));
  cmd->add_flag("--json", f->json, "The result as one JSON object");
  cmd->footer(fmt::format("Example: xlstm data {} data/wiki", name));
  cmd->callback([f, run] { run(*f); });
}

}  // namespace

void add_data_command(CLI::App& app) {
  CLI::App* cmd = app.add_subcommand(
      "data", "Build token shards from text or from other trainers' files, describe them, check them.");
  cmd->require_subcommand(1);
  cmd->footer("Example: xlstm data build --tokenizer tok.model --out data/wiki wiki.jsonl.zst");
  add_build(*cmd);
  add_data_import_command(*cmd);
  add_folder_command(*cmd, "info", "What is in a data set.", info);
  add_folder_command(*cmd, "verify", "Reads everything and checks it: checksums, sizes, token ids, documents.", verify);
}

}  // namespace xlstm
