// xlstm eval
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "core/log.h"
#include "core/parallel.h"
#include "data/tokenizer.h"
#include "tools/commands.h"
#include "tools/ranks.h"
#include "train/agreement.h"
#include "train/evaluate.h"

namespace xlstm {

namespace {

constexpr i64 kMostRows = i64{1} << 31;  // their products with a width still fit into 64 bits

struct Options {
  std::string checkpoint;
  std::vector<std::string> data;
  i64 context = 0, batch = 0, windows = 0, threads = 0;
  bool json = false;
};

struct Result {
  std::string set;  // as the user named it; "validation" without --data
  Evaluation evaluation;
  i64 step = 0, context = 0;
};

// The folder of a set: a name of the run's eval.sets, or the folder itself.
std::string folder_of(const std::string& set, const LoadedModel& model) {
  const auto& sets = model.config().eval.sets;
  if (const auto it = sets.find(set); it != sets.end()) return it->second;
  const std::string& validation = model.config().data.validation;
  return set == "validation" && !validation.empty() ? validation : set;
}

Dataset open_matching(const std::string& set, const LoadedModel& model) {
  if (set.empty())
    throw user_error("--data: name a folder made by 'xlstm data build' (the run has no data.validation)");
  const std::string path = folder_of(set, model);
  Dataset data = Dataset::open(path, "validation");
  if (data.tokenizer_sha256() != model.tokenizer_sha256())
    throw user_error("{}: built with tokenizer {:.12}, but the model was trained with {:.12}; build it with {}", path,
                     data.tokenizer_sha256(), model.tokenizer_sha256(), model.tokenizer_path().string());
  return data;
}

// Ranks that evaluated something else would make a mean of nothing.
void agree_on(const Options& o, const LoadedModel& model, const Dataset& data, Communicator& ranks) {
  if (ranks.size() == 1) return;
  agree(ranks, {{"--checkpoint", fmt::format("step {} (weights {:.12})", model.step(), model.weights_sha256())},
                {"--data", data.fingerprint()},
                {"--context", std::to_string(o.context)},
                {"--batch", std::to_string(o.batch)},
                {"--windows", std::to_string(o.windows)}});
}

Result eval_set(const Options& o, const std::string& set, const LoadedModel& loaded, Communicator& ranks) {
  const i64 length = o.context > 0 ? o.context : loaded.config().train.context_length;
  const i64 batch = o.batch > 0 ? o.batch : std::max<i64>(1, 4096 / length);
  std::optional<Dataset> opened;
  ranks.together("data", [&] {
    opened.emplace(open_matching(set, loaded));
    check_window_fits(*opened, length);
    if (batch > kMostRows / length)
      throw user_error("--batch {} x --context {}: at most {} tokens at once are possible", batch, length, kMostRows);
  });
  const Dataset& data = *opened;
  agree_on(o, loaded, data, ranks);

  // Imported token files may come without their text's tokenizer: then nothing is known of bytes.
  std::vector<int> token_bytes;
  if (Tokenizer::is_model(data.tokenizer_path())) token_bytes = Tokenizer::load(data.tokenizer_path()).token_bytes();
  const EvaluationOptions options{.windows = o.windows, .token_bytes = token_bytes, .ranks = &ranks};
  return {.set = set,
          .evaluation = evaluate(loaded, data, length, batch, options).value(),
          .step = loaded.step(),
          .context = length};
}

std::vector<Result> run_eval(const Options& o, Communicator& ranks) {
  if (ranks.size() > 1) agree(ranks, facts_of_program());
  set_threads(threads_of_rank(ranks, o.threads));
  std::unique_ptr<LoadedModel> model;
  ranks.configure({});  // a large one takes its time, and has the config
  ranks.together("model",
                 [&] { model = std::make_unique<LoadedModel>(o.checkpoint, std::nullopt, ranks.local_rank()); });
  if (ranks.size() > 1) agree(ranks, facts_of(model->machine()));
  ranks.configure({.timeout = static_cast<double>(model->config().parallel.timeout)});
  log_info("{}: step {}", model->folder().string(), model->step());
  std::vector<std::string> sets = o.data;
  if (sets.empty()) sets.emplace_back(model->config().data.validation.empty() ? "" : "validation");
  const Facts asked{{"--data", fmt::format("{}", fmt::join(sets, ", "))}};
  if (ranks.size() > 1) agree(ranks, asked);
  std::vector<Result> results;
  results.reserve(sets.size());
  for (const std::string& set : sets) results.push_back(eval_set(o, set, *model, ranks));
  return results;
}

// Mean loss of positions [1], [2, 3], [4, 7], ... : how much context helps.
Json loss_by_position(const std::vector<double>& loss) {
  Json buckets = Json::array();
  for (std::size_t begin = 0; begin < loss.size(); begin = 2 * begin + 1) {
    const std::size_t end = std::min(loss.size(), 2 * begin + 1);
    double sum = 0;
    for (std::size_t i = begin; i < end; ++i) sum += loss[i];
    buckets.push_back({{"from", begin + 1}, {"to", end}, {"loss", sum / static_cast<double>(end - begin)}});
  }
  return buckets;
}

Json json_of(const Result& r) {
  const bool known = r.evaluation.bits_per_byte > 0;
  return {{"loss", r.evaluation.loss},
          {"perplexity", std::exp(r.evaluation.loss)},
          {"bits_per_byte", known ? Json(r.evaluation.bits_per_byte) : Json(nullptr)},
          {"tokens", r.evaluation.tokens},
          {"step", r.step},
          {"context_length", r.context},
          {"loss_by_position", loss_by_position(r.evaluation.loss_by_position)},
          {"unigram_entropy", r.evaluation.unigram_entropy}};
}

std::string text_of(const Result& r) {
  const Json curve = loss_by_position(r.evaluation.loss_by_position);
  const bool known = r.evaluation.bits_per_byte > 0;
  std::string text = fmt::format("loss             {:.4f} nats per token\n", r.evaluation.loss);
  text += fmt::format("perplexity       {:.3f}\n", std::exp(r.evaluation.loss));
  text += known ? fmt::format("bits per byte    {:.4f}\n", r.evaluation.bits_per_byte)
                : "bits per byte    not known: the data set has no SentencePiece tokenizer\n";
  text += fmt::format("tokens           {}\n", r.evaluation.tokens);
  text += fmt::format("unigram entropy  {:.4f} nats per token\n", r.evaluation.unigram_entropy);
  text += "loss by position in the context\n";
  for (const Json& b : curve)
    text += fmt::format("  {:>5} - {:<5}  {:.4f}\n", b["from"].get<i64>(), b["to"].get<i64>(), b["loss"].get<double>());
  return text;
}

void print_eval(const Options& o, Communicator& ranks) {
  const std::vector<Result> results = run_eval(o, ranks);
  if (!ranks.first()) return;
  if (results.size() == 1) return print_result(o.json, json_of(results[0]), text_of(results[0]));
  Json sets = Json::object();
  std::string text;
  for (const Result& r : results) {
    sets[r.set] = json_of(r);
    text += (text.empty() ? "" : "\n") + r.set + "\n" + text_of(r);
  }
  print_result(o.json, {{"sets", sets}}, text);
}

}  // namespace

void add_eval_command(CLI::App& app) {
  auto* cmd = app.add_subcommand("eval", "Loss, perplexity and bits per byte of a checkpoint on a data set");
  auto o = std::make_shared<Options>();
  cmd->add_option("--checkpoint", o->checkpoint, "Run directory, or one checkpoint")
      ->required()
      ->check(not_empty("a folder"));
  cmd->add_option("--data", o->data,
                  "Folder made by 'xlstm data build', or a name of the run's eval.sets; may be repeated [validation]")
      ->allow_extra_args(false)
      ->check(not_empty("a folder"));
  cmd->add_option("--context", o->context, "Tokens per window [as in training]")->check(at_least(1));
  cmd->add_option("--batch", o->batch, "Windows per pass [about 4096 tokens]")->check(at_least(1));
  cmd->add_option("--windows", o->windows, "Score only the first N windows [all]")->check(at_least(1));
  cmd->add_option("--threads", o->threads, "[every usable core]")->check(thread_count());
  cmd->add_flag("--json", o->json, "One JSON object");
  cmd->footer("Example:\n  xlstm eval --checkpoint runs/exp --data data/quickstart");
  cmd->callback([o] { with_ranks("xlstm eval", [&](Communicator& ranks) { print_eval(*o, ranks); }); });
}

}  // namespace xlstm
