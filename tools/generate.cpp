// xlstm generate
#include "train/generate.h"

#include <sstream>

#include "core/log.h"
#include "core/parallel.h"
#include "core/text.h"
#include "data/utf8.h"
#include "tools/commands.h"

namespace xlstm {

namespace {

struct Options {
  std::string checkpoint, tokenizer, prompts_file;
  std::vector<std::string> prompts;
  GenerateConfig cfg;
  i64 threads = 0;
  bool json = false;
};

// Lines that end in \n or \r\n, without the empty ones.
std::vector<std::string> read_prompts(const std::string& file) {
  std::vector<std::string> prompts;
  std::istringstream lines(file == "-" ? read_standard_input() : read_file(file));
  for (std::string line; std::getline(lines, line);) {
    if (line.ends_with('\r')) line.pop_back();
    if (!line.empty()) prompts.push_back(line);
  }
  if (prompts.empty()) throw user_error("--prompts-file {}: no prompt in it; write one per line", file);
  return prompts;
}

std::vector<std::string> collect_prompts(const Options& o) {
  std::vector<std::string> prompts = o.prompts;
  if (!o.prompts_file.empty()) {
    const std::vector<std::string> more = read_prompts(o.prompts_file);
    prompts.insert(prompts.end(), more.begin(), more.end());
  }
  if (prompts.empty()) prompts.emplace_back();
  i64 replaced = 0;
  for (std::string& prompt : prompts) prompt = repair_utf8(prompt, replaced);
  if (replaced > 0) log_warning("{} of invalid UTF-8 in the prompts replaced by U+FFFD", counted(replaced, "piece"));
  return prompts;
}

Tokenizer open_tokenizer(const Options& o, const LoadedModel& model) {
  const fs::path path = o.tokenizer.empty() ? model.tokenizer_path() : fs::path(o.tokenizer);
  Tokenizer tokenizer = [&] {
    try {
      return Tokenizer::load(path);
    } catch (const UserError& e) {
      throw user_error("{}; --tokenizer names the one that the model was trained with", e.what());
    }
  }();
  if (tokenizer.sha256() != model.tokenizer_sha256())
    throw user_error("{}: is tokenizer {:.12}, but the model was trained with {:.12}; give that one with --tokenizer",
                     path.string(), tokenizer.sha256(), model.tokenizer_sha256());
  return tokenizer;
}

void run_generate(const Options& o) {
  o.cfg.sampling.check();
  const std::vector<std::string> prompts = collect_prompts(o);
  set_threads(static_cast<int>(o.threads));
  const LoadedModel model(o.checkpoint);
  const Tokenizer tokenizer = open_tokenizer(o, model);
  const bool stream = prompts.size() == 1 && !o.json;
  log_info("{}: step {}", model.folder().string(), model.step());

  std::vector<std::string> texts(prompts.size());
  std::vector<StreamDecoder> decoders(prompts.size(), StreamDecoder(tokenizer));
  if (stream) write_result(prompts[0]);
  const auto on_token = [&](std::size_t p, int id) {
    const std::string piece = decoders[p].push(id);
    texts[p] += piece;
    if (stream) write_result(piece);
  };
  const GenerateReport report = generate(model, tokenizer, encode_prompts(tokenizer, prompts), o.cfg, on_token);
  for (std::size_t p = 0; p < prompts.size(); ++p) {
    const std::string rest = decoders[p].finish();
    texts[p] += rest;
    if (stream) write_result(rest + "\n");
  }

  const double rate = static_cast<double>(report.new_tokens) / std::max(report.decode_seconds, 1e-9);
  log_info("{} in {:.2f} s, {} at {} tokens/s", counted(report.prompt_tokens, "prompt token"), report.prefill_seconds,
           counted(report.new_tokens, "new token"), human_count(rate));
  if (stream) return;
  Json results = Json::array();
  std::string all;
  for (std::size_t p = 0; p < prompts.size(); ++p) {
    results.push_back({{"prompt", prompts[p]}, {"text", texts[p]}});
    all += fmt::format("--- prompt {}\n{}{}\n", p + 1, prompts[p], texts[p]);
  }
  print_result(o.json, {{"samples", results}, {"new_tokens", report.new_tokens}, {"tokens_per_second", rate}}, all);
}

}  // namespace

void add_generate_command(CLI::App& app) {
  auto* cmd = app.add_subcommand("generate", "Sample text from a checkpoint");
  auto o = std::make_shared<Options>();
  cmd->add_option("--checkpoint", o->checkpoint, "Run directory, or one checkpoint")
      ->required()
      ->check(not_empty("a folder"));
  cmd->add_option("--prompt", o->prompts, "Text to go on from; may be repeated [a new document]")
      ->allow_extra_args(false);
  cmd->add_option("--prompts-file", o->prompts_file, "One prompt per line; '-' for stdin")->check(not_empty("a file"));
  cmd->add_option("--tokens", o->cfg.max_tokens, "New tokens per prompt at most")
      ->check(at_least(1))
      ->capture_default_str();
  cmd->add_option("--temperature", o->cfg.sampling.temperature, "0 = always the most likely token")
      ->capture_default_str();
  cmd->add_option("--top-k", o->cfg.sampling.top_k, "Only the k most likely tokens; 0 = all")->capture_default_str();
  cmd->add_option("--top-p", o->cfg.sampling.top_p, "Only the most likely tokens that hold this mass")
      ->capture_default_str();
  cmd->add_option("--seed", o->cfg.sampling.seed, "Same seed, same text")->check(at_least(0))->capture_default_str();
  cmd->add_option("--tokenizer", o->tokenizer, "[tokenizer.model of the run]")->check(not_empty("a file"));
  cmd->add_option("--threads", o->threads, "[every usable core]")->check(thread_count());
  cmd->add_flag("--endless", o->cfg.endless, "Go on after the end of a document");
  cmd->add_flag("--json", o->json, "One JSON object");
  cmd->footer(
      "Example:\n  xlstm generate --checkpoint runs/exp --prompt 'template <class T>' --temperature 0.8 --top-p 0.95");
  cmd->callback([o] { run_generate(*o); });
}

}  // namespace xlstm
