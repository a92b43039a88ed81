// xlstm tokenizer train | encode | decode
#include "data/tokenizer.h"

#include <algorithm>
#include <charconv>
#include <iostream>
#include <iterator>
#include <memory>

#include "core/log.h"
#include "core/profile.h"
#include "core/text.h"
#include "data/tokenizer_trainer.h"
#include "data/utf8.h"
#include "tools/commands.h"
#include "tools/text_flags.h"

namespace xlstm {

namespace {

std::string all_of_stdin() { return {std::istreambuf_iterator<char>(std::cin), {}}; }

struct TrainFlags {
  TokenizerTraining training;
  std::string out;
  double sample_mb = 64;
  bool json = false;
};

// Before the work, and so that it replaces nothing but another tokenizer.
void check_out(const TrainFlags& f) {
  check_output_file(f.out, "--out");
  std::error_code ignored;
  for (const std::string& input : f.training.inputs)
    if (fs::equivalent(f.out, input, ignored))
      throw user_error("--out {}: is the text to learn from; name another file", f.out);
  if (fs::exists(f.out, ignored) && !fs::is_empty(f.out, ignored) && !Tokenizer::is_model(f.out))
    throw user_error("--out {}: is there already and no tokenizer; name another file, or move that one away", f.out);
}

void train(TrainFlags& f) {
  const Timer timer;
  if (!(f.sample_mb >= 1e-6 && f.sample_mb <= 1e9))
    throw user_error("--sample-mb {}: expected a positive number of at most a billion", f.sample_mb);
  check_out(f);
  f.training.sample_bytes = static_cast<i64>(f.sample_mb * 1e6);
  const std::string model = train_tokenizer(f.training);
  const Tokenizer tokenizer = Tokenizer::from_model(model, f.out);
  if (const fs::path folder = fs::path(f.out).parent_path(); !folder.empty()) make_directory(folder);
  write_file_atomically(f.out, model);
  const Json result = {{"model", f.out},
                       {"vocab_size", tokenizer.vocab_size()},
                       {"sha256", tokenizer.sha256()},
                       {"seconds", timer.seconds()}};
  print_result(f.json, result,
               fmt::format("{}: {} pieces, sha256 {}, in {}\n", f.out, tokenizer.vocab_size(),
                           tokenizer.sha256().substr(0, 12), human_duration(timer.seconds())));
}

void add_train(CLI::App& app) {
  auto f = std::make_shared<TrainFlags>();
  CLI::App* cmd =
      app.add_subcommand("train", "Learns a vocabulary from raw text (SentencePiece BPE, byte fallback, lossless).");
  cmd->add_option("inputs", f->training.inputs, "Text: .txt, .jsonl, each also .gz or .zst; folders; '-' for stdin")
      ->required()
      ->check(not_empty("a file, a folder, or '-' for stdin"));
  cmd->add_option("--vocab-size", f->training.vocab_size, "Number of pieces")
      ->required()
      ->check(at_least(1, std::numeric_limits<std::int32_t>::max()));
  cmd->add_option("--out", f->out, "The model file to write")->required();
  cmd->add_option("--sample-mb", f->sample_mb, "Learn from a sample of this many megabytes")->capture_default_str();
  cmd->add_option("--seed", f->training.seed, "Of the sample")->check(at_least(0))->capture_default_str();
  cmd->add_flag("--json", f->json, "The result as one JSON object");
  add_text_flags(*cmd, f->training.text);
  cmd->footer("Example: xlstm tokenizer train --vocab-size 8000 --out tok.model books/ wiki.jsonl.zst");
  cmd->callback([f] { train(*f); });
}

struct CodeFlags {
  std::string model, text;
  std::vector<std::string> ids;
  bool json = false;
};

void encode(const CodeFlags& f, bool from_stdin) {
  const Tokenizer tokenizer = Tokenizer::load(f.model);
  i64 replaced = 0;
  const std::string text = repair_utf8(from_stdin ? all_of_stdin() : f.text, replaced);
  if (replaced > 0) log_warning("{} of invalid UTF-8 replaced by U+FFFD", counted(replaced, "piece"));
  Json ids = tokenizer.encode(text), pieces = Json::array();
  std::string line;
  for (const Json& id : ids) {
    pieces.push_back(tokenizer.piece(id.get<int>()));
    line += (line.empty() ? "" : " ") + id.dump();
  }
  print_result(f.json, {{"ids", ids}, {"pieces", pieces}}, line + "\n");
}

int id_of(const std::string& word) {
  int id = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), id);
  if (error != std::errc() || end != word.data() + word.size()) throw user_error("'{}': expected a token id", word);
  return id;
}

void decode(const CodeFlags& f) {
  const Tokenizer tokenizer = Tokenizer::load(f.model);
  std::vector<std::string> words = f.ids;
  if (words.empty()) words.assign(std::istream_iterator<std::string>(std::cin), {});
  std::vector<int> ids;
  ids.reserve(words.size());
  for (const std::string& word : words) ids.push_back(id_of(word));
  i64 replaced = 0;
  const std::string text = repair_utf8(tokenizer.decode(ids), replaced);
  print_result(f.json, {{"text", text}}, text);
}

void add_coding(CLI::App& app) {
  auto f = std::make_shared<CodeFlags>();
  CLI::App* enc = app.add_subcommand("encode", "Token ids of a text.");
  enc->add_option("--model", f->model, "The tokenizer")->required()->check(not_empty("a file"));
  CLI::Option* text = enc->add_option("text", f->text, "The text; without it, stdin is read");
  enc->add_flag("--json", f->json, "Ids and pieces as one JSON object");
  enc->footer("Example: xlstm tokenizer encode --model tok.model 'Hello world'");
  enc->callback([f, text] { encode(*f, text->count() == 0); });

  CLI::App* dec = app.add_subcommand("decode", "The text of token ids, exactly; nothing is added at its end.");
  dec->add_option("--model", f->model, "The tokenizer")->required()->check(not_empty("a file"));
  dec->add_option("ids", f->ids, "The ids; without them, stdin is read");
  dec->add_flag("--json", f->json, "The text as one JSON object");
  dec->footer("Example: xlstm tokenizer encode --model tok.model 'Hello' | xlstm tokenizer decode --model tok.model");
  dec->callback([f] { decode(*f); });
}

}  // namespace

void add_tokenizer_command(CLI::App& app) {
  CLI::App* cmd = app.add_subcommand("tokenizer", "Train a vocabulary from raw text, and look what it does.");
  cmd->require_subcommand(1);
  cmd->footer("Example: xlstm tokenizer train --vocab-size 8000 --out tok.model books/");
  add_train(*cmd);
  add_coding(*cmd);
}

}  // namespace xlstm
