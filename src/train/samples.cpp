#include "train/samples.h"

#include <algorithm>
#include <optional>
#include <sstream>

#include "core/log.h"
#include "core/random.h"
#include "data/utf8.h"

namespace xlstm {

namespace {

GenerateConfig generation_of(const EvalConfig& eval) {
  return {.sampling = {.temperature = eval.temperature}, .max_tokens = eval.sample_tokens};
}

// Prompts may hold bytes that are not UTF-8, as files may.
std::vector<std::string> valid(std::vector<std::string> prompts) {
  i64 replaced = 0;
  for (std::string& prompt : prompts) prompt = repair_utf8(prompt, replaced);
  return prompts;
}

Tokenizer open_tokenizer(const fs::path& path) {
  if (!Tokenizer::is_model(path))
    throw user_error("eval.prompts: {} is no SentencePiece model, so no prompt can be read; leave them out",
                     path.string());
  return Tokenizer::load(path);
}

std::optional<Sample> sample_of(const std::string& line) {
  const Json json = Json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return std::nullopt;
  try {
    return Sample{.step = json.at("step").get<i64>(),
                  .prompt = json.at("prompt").get<std::string>(),
                  .text = json.at("text").get<std::string>()};
  } catch (const nlohmann::json::exception&) {
    return std::nullopt;
  }
}

template <class F>
void for_each_sample(const fs::path& file, F&& visit) {
  std::error_code none;
  if (!fs::exists(file, none)) return;
  std::istringstream lines(read_file(file));
  for (std::string line; std::getline(lines, line);)
    if (const auto sample = sample_of(line)) visit(*sample, line);
}

}  // namespace

i64 sampling_bytes(const TrainConfig& cfg, const LanguageModel& model, Context dry) {
  std::size_t longest = 0;
  for (const std::string& prompt : valid(cfg.eval.prompts)) longest = std::max(longest, prompt.size() + 1);
  return generation_bytes(model, activation_type(cfg.run), static_cast<i64>(cfg.eval.prompts.size()),
                          static_cast<i64>(longest), dry);
}

Sampling::Sampling(const TrainConfig& cfg, const ModelInUse& model, const fs::path& tokenizer)
    : prompts_(valid(cfg.eval.prompts)),
      seed_(static_cast<std::uint64_t>(cfg.run.seed)),
      tokenizer_(open_tokenizer(tokenizer)),
      generator_(model, tokenizer_, encode_prompts(tokenizer_, prompts_), generation_of(cfg.eval)) {}

std::vector<Sample> Sampling::draw(i64 step) {
  std::vector<Sample> samples;
  for (const std::string& prompt : prompts_) samples.push_back({.step = step, .prompt = prompt});
  std::vector<StreamDecoder> decoders(prompts_.size(), StreamDecoder(tokenizer_));
  const auto key = RandomStream(seed_, RandomUse::sampling, static_cast<std::uint64_t>(step)).block(0);
  generator_.run(std::uint64_t{key[0]} << 32 | key[1],
                 [&](std::size_t p, int id) { samples[p].text += decoders[p].push(id); });
  for (std::size_t p = 0; p < samples.size(); ++p) samples[p].text += decoders[p].finish();
  return samples;
}

SampleLog::SampleLog(fs::path file, const std::function<bool(i64 step)>& is_evaluated) : file_(std::move(file)) {
  std::string kept;
  for_each_sample(file_, [&](const Sample& sample, const std::string& line) {
    if (is_evaluated(sample.step)) kept += line + "\n";
  });
  std::error_code none;
  if (fs::exists(file_, none) && read_file(file_) != kept) write_file_atomically(file_, kept);
}

void SampleLog::write(const std::vector<Sample>& samples) {
  try {
    OutputFile out(file_, /*append=*/true);
    for (const Sample& s : samples)
      out.write(to_text({{"step", s.step}, {"prompt", s.prompt}, {"text", s.text}}) + "\n");
    out.close();
  } catch (const UserError& e) {
    log_error("{}; training goes on without these samples", e.what());
  }
}

std::vector<Sample> read_last_samples(const fs::path& file) {
  std::vector<Sample> last;
  for_each_sample(file, [&](const Sample& sample, const std::string&) {
    if (!last.empty() && last.front().step != sample.step) last.clear();
    last.push_back(sample);
  });
  return last;
}

}  // namespace xlstm
