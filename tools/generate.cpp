// xlstm generate
#include "train/generate.h"

#include "core/log.h"
#include "core/parallel.h"
#include "core/text.h"
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

std::vector<std::string> collect_prompts(const Options& o) {
  std::vector<std::string> prompts = o.prompts;
  if (!o.prompts_file.empty()) {
    const std::string text = read_file(o.prompts_file);
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t end = std::min(text.find('\n', at), text.size());
      if (end > at) prompts.push_back(text.substr(at, end - at));
      at = end + 1;
    }
  }
  if (prompts.empty()) prompts.emplace_back();
  return prompts;
}

Tokenizer open_tokenizer(const Options& o, const LoadedModel& model) {
  const fs::path path = o.tokenizer.empty() ? model.tokenizer_path() : fs::path(o.tokenizer);
  Tokenizer tokenizer = Tokenizer::load(path);
  if (tokenizer.sha256() != model.tokenizer_sha256())
    throw user_error("{}: is tokenizer {:.12}, but the model was trained with {:.12}; give that one with --tokenizer",
                     path.string(), tokenizer.sha256(), model.tokenizer_sha256());
  return tokenizer;
}

// A document begins after an end-of-document token (spec §0.2): it opens every prompt.
std::vector<std::vector<int>> encode_prompts(const Tokenizer& tokenizer, const std::vector<std::string>& prompts) {
  std::vector<std::vector<int>> ids;
  for (const std::string& prompt : prompts) {
    ids.push_back({tokenizer.eod_id()});
    const std::vector<int> rest = tokenizer.encode(prompt);
    ids.back().insert(ids.back().end(), rest.begin(), rest.end());
  }
  return ids;
}

void run_generate(const Options& o) {
  o.cfg.sampling.check();
  const std::vector<std::string> prompts = collect_prompts(o);
  set_threads(static_cast<int>(o.threads));
  const LoadedModel model(o.checkpoint);
  const Tokenizer tokenizer = open_tokenizer(o, model);
  const bool stream = prompts.size() == 1 && !o.json;

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
  log_info("{} prompt tokens in {:.2f} s, {} new tokens at {} tokens/s", report.prompt_tokens, report.prefill_seconds,
           report.new_tokens, human_count(rate));
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
  cmd->add_option("--checkpoint", o->checkpoint, "Run directory, or one checkpoint")->required();
  cmd->add_option("--prompt", o->prompts, "Text to go on from; may be repeated [a new document]")
      ->allow_extra_args(false);
  cmd->add_option("--prompts-file", o->prompts_file, "One prompt per line");
  cmd->add_option("--tokens", o->cfg.max_tokens, "New tokens per prompt at most")
      ->check(at_least(1))
      ->capture_default_str();
  cmd->add_option("--temperature", o->cfg.sampling.temperature, "0 = always the most likely token")
      ->capture_default_str();
  cmd->add_option("--top-k", o->cfg.sampling.top_k, "Only the k most likely tokens; 0 = all")->capture_default_str();
  cmd->add_option("--top-p", o->cfg.sampling.top_p, "Only the most likely tokens that hold this mass")
      ->capture_default_str();
  cmd->add_option("--seed", o->cfg.sampling.seed, "Same seed, same text")->capture_default_str();
  cmd->add_option("--tokenizer", o->tokenizer, "[tokenizer.model of the run]");
  cmd->add_option("--threads", o->threads, "[every usable core]")->check(thread_count());
  cmd->add_flag("--endless", o->cfg.endless, "Go on after the end of a document");
  cmd->add_flag("--json", o->json, "One JSON object");
  cmd->footer(
      "Example:\n  xlstm generate --checkpoint runs/exp --prompt 'template <class T>' --temperature 0.8 --top-p 0.95");
  cmd->callback([o] { run_generate(*o); });
}

}  // namespace xlstm
