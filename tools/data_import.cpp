// xlstm data import
#include <memory>

#include "core/log.h"
#include "core/text.h"
#include "data/dataset_import.h"
#include "tools/commands.h"
#include "tools/data_summary.h"

namespace xlstm {

namespace {

struct ImportFlags {
  DatasetImport import;
  std::string tokenizer, out, as;
  bool json = false;
};

const std::map<std::string, TokenFormat> kFormats{{"llmc", TokenFormat::llmc},
                                                  {"megatron", TokenFormat::megatron},
                                                  {"npy", TokenFormat::numpy},
                                                  {"raw-u16", TokenFormat::raw_uint16},
                                                  {"raw-u32", TokenFormat::raw_uint32}};

void import_files(ImportFlags& f) {
  if (!f.as.empty()) f.import.as = kFormats.at(f.as);
  f.import.tokenizer = f.tokenizer;
  f.import.out = f.out;
  const DatasetImportResult r = import_dataset(f.import);
  if (r.empty_documents > 0) log_warning("{} left out", counted(r.empty_documents, "empty document"));
  Json json{{"out", f.out}, {"empty_documents", r.empty_documents}, {"train", summary_of(r.train)}};
  std::string text = table_head() + row_of("train", r.train);
  if (r.validation) {
    json["validation"] = summary_of(*r.validation);
    text += row_of("validation", *r.validation);
  }
  print_result(f.json, json, text);
}

}  // namespace

void add_data_import_command(CLI::App& group) {
  auto f = std::make_shared<ImportFlags>();
  DatasetImport& i = f->import;
  CLI::App* cmd = group.add_subcommand("import", "Token files of llm.c, Megatron or NumPy in, token shards out.");
  cmd->add_option("inputs", i.inputs, "llm.c .bin, Megatron .bin with .idx beside it, .npy; in their order")
      ->required()
      ->check(not_empty("a file"));
  cmd->add_option("--out", f->out, "The folder to make")->required()->check(not_empty("a folder"));
  cmd->add_option("--as", f->as, "Format [by content]; raw-u16, raw-u32: ids and nothing else")
      ->check(CLI::IsMember({"llmc", "megatron", "npy", "raw-u16", "raw-u32"}));
  cmd->add_option("--tokenizer", f->tokenizer,
                  "The tokenizer's file. No SentencePiece model: it only names the vocabulary")
      ->check(not_empty("a file"));
  cmd->add_option("--vocab-size", i.vocab_size, "Number of ids [of the tokenizer, or of the format]");
  cmd->add_option("--eod-id", i.eod_id, "The id between documents [of the tokenizer, or of the format]");
  cmd->add_option("--validation-fraction", i.validation_fraction,
                  "Share of the documents to keep for validation; 0 = none")
      ->capture_default_str();
  cmd->add_option("--seed", i.seed, "Of the choice of validation documents")->check(at_least(0))->capture_default_str();
  cmd->add_option("--shard-tokens", i.shard_tokens, "Most tokens of a shard")
      ->check(at_least(1))
      ->capture_default_str();
  cmd->add_flag("--json", f->json, "The result as one JSON object");
  cmd->footer("Example: xlstm data import --out data/fineweb fineweb_train_000001.bin fineweb_train_000002.bin");
  cmd->callback([f] { import_files(*f); });
}

}  // namespace xlstm
