// xlstm checkpoint export | import
#include <memory>

#include "core/log.h"
#include "core/text.h"
#include "data/tokenizer.h"
#include "tools/commands.h"
#include "train/check_logits.h"
#include "train/checkpoint_store.h"
#include "train/model_export.h"
#include "train/model_import.h"

namespace xlstm {

namespace {

struct ExportFlags {
  std::string path, out, format = "auto", dtype = "f32";
  i64 shard_mb = 5000, check_tokens = 0;
  bool json = false;
};

template <class E>
E enum_named(const std::string& name) {
  const auto names = names_of(E{});
  return static_cast<E>(std::find(names.begin(), names.end(), name) - names.begin());
}

fs::path tokenizer_of(const CheckpointReader& c) {
  return fs::absolute(c.folder()).lexically_normal().parent_path().parent_path() / "tokenizer.model";
}

// The run's tokenizer, if it is the one that the checkpoint names.
void add_tokenizer(const CheckpointReader& c, ExportOptions& options) {
  const fs::path file = tokenizer_of(c);
  std::error_code ignored;
  if (!fs::exists(file, ignored)) return log_warning("{}: is not there, so none is exported", file.string());
  options.tokenizer = file;
  if (Tokenizer::is_model(file)) options.eod_id = Tokenizer::load(file).eod_id();
}

void export_to(const ExportFlags& f) {
  const CheckpointReader c = open_newest_checkpoint(f.path);
  ExportOptions options{.out = f.out,
                        .format = enum_named<ExportFormat>(f.format),
                        .dtype = f.dtype == "bf16" ? DType::bf16 : DType::f32,
                        .shard_bytes = f.shard_mb * 1'000'000};
  add_tokenizer(c, options);
  ExportResult r = export_checkpoint(c, options);
  if (!r.why_own.empty())
    log_warning("the Hugging Face layout cannot say this model: {}; written in the layout of this program", r.why_own);
  if (f.check_tokens > 0) {
    write_check_logits(c.folder(), fs::path(f.out) / "check.safetensors", f.check_tokens);
    r.files.emplace_back("check.safetensors");
  }
  const char* format = names_of(ExportFormat{})[static_cast<std::size_t>(r.format)];
  print_result(f.json,
               {{"out", f.out},
                {"format", format},
                {"step", c.step()},
                {"tensors", r.tensors},
                {"parameters", r.parameters},
                {"bytes", r.bytes},
                {"files", r.files}},
               fmt::format("{}: step {} in the {} layout, {} parameters, {} in {}\n", f.out, c.step(), format,
                           human_count(static_cast<double>(r.parameters)), human_bytes(r.bytes),
                           counted(static_cast<i64>(r.files.size()), "file")));
}

struct ImportFlags {
  std::string path, run, tokenizer, config;
  std::vector<std::string> set;
  bool json = false;
};

void import_from(const ImportFlags& f) {
  if (f.config.empty() && !f.set.empty()) throw user_error("--set: needs --config, the run that goes on");
  ImportOptions options{.run = f.run, .tokenizer = f.tokenizer};
  if (!f.config.empty()) options.training = load_train_config(f.config, f.set);
  const ImportResult r = import_model(f.path, options);
  const std::string next = f.config.empty() ? fmt::format("xlstm generate --checkpoint {}", f.run)
                                            : fmt::format("xlstm train --config {} --run {}", f.config, f.run);
  print_result(f.json, {{"run", f.run}, {"parameters", r.parameters}, {"weights_sha256", r.weights_sha256}},
               fmt::format("{}: {} parameters; '{}' goes on from there\n", f.run,
                           human_count(static_cast<double>(r.parameters)), next));
}

}  // namespace

void add_checkpoint_export_command(CLI::App& group) {
  auto f = std::make_shared<ExportFlags>();
  CLI::App* c = group.add_subcommand("export", "Write the weights of the newest checkpoint for other programs");
  c->add_option("path", f->path, "A run directory, its checkpoints folder, or one checkpoint")
      ->required()
      ->check(not_empty("a folder"));
  c->add_option("--out", f->out, "The folder to make")->required()->check(not_empty("a folder"));
  c->add_option("--format", f->format,
                "hf: Hugging Face's xlstm layout. xlstm: ours. auto: hf where it can say the model")
      ->check(CLI::IsMember({"auto", "hf", "xlstm"}))
      ->capture_default_str();
  c->add_option("--dtype", f->dtype, "Of the values")->check(CLI::IsMember({"f32", "bf16"}))->capture_default_str();
  c->add_option("--shard-mb", f->shard_mb, "Most megabytes of one file")
      ->check(at_least(1, 1'000'000))
      ->capture_default_str();
  c->add_option("--check-logits", f->check_tokens,
                "Also write so many token ids and the logits of this program for them, to check another program by")
      ->check(at_least(1, 4096));
  c->add_flag("--json", f->json, "Print one JSON object");
  c->footer("Example:\n  xlstm checkpoint export runs/first --format hf --out first_hf");
  c->callback([f] { export_to(*f); });
}

void add_checkpoint_import_command(CLI::App& group) {
  auto f = std::make_shared<ImportFlags>();
  CLI::App* c = group.add_subcommand("import", "Make a run of weights in Hugging Face's xlstm layout, or in ours");
  c->add_option("path", f->path, "Folder with config.json or config.yaml, and the weights in safetensors")
      ->required()
      ->check(not_empty("a folder"));
  c->add_option("--run", f->run, "The run directory to make")->required()->check(not_empty("a folder"));
  c->add_option("--tokenizer", f->tokenizer, "The tokenizer's file [tokenizer.model of the folder]")
      ->check(not_empty("a file"));
  c->add_option("--config", f->config, "YAML file of a run that goes on from these weights, with a new optimizer");
  c->add_option("--set", f->set, "Override a key of the config: key=value; may be repeated");
  c->add_flag("--json", f->json, "Print one JSON object");
  c->footer("Example:\n  xlstm checkpoint import first_hf --run runs/second");
  c->callback([f] { import_from(*f); });
}

}  // namespace xlstm
