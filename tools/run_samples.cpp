#include "tools/run_samples.h"

#include "core/log.h"
#include "data/tokenizer.h"
#include "train/generate.h"

namespace xlstm {

std::vector<std::string> draw_samples(const fs::path& run, i64 count, i64 tokens) {
  if (count == 0) return {};
  try {
    const LoadedModel model(run);
    if (!Tokenizer::is_model(model.tokenizer_path())) return {};
    const Tokenizer tokenizer = Tokenizer::load(model.tokenizer_path());
    GenerateConfig cfg;
    cfg.max_tokens = tokens;
    cfg.sampling.temperature = 0.8;
    cfg.sampling.top_p = 0.95;
    const std::vector<std::vector<int>> prompts(static_cast<std::size_t>(count), {tokenizer.eod_id()});
    std::vector<std::string> texts(prompts.size());
    std::vector<StreamDecoder> decoders(prompts.size(), StreamDecoder(tokenizer));
    generate(model, tokenizer, prompts, cfg, [&](std::size_t p, int id) { texts[p] += decoders[p].push(id); });
    for (std::size_t p = 0; p < texts.size(); ++p) texts[p] += decoders[p].finish();
    return texts;
  } catch (const UserError& e) {
    log_warning("no samples of {}: {}", run.string(), e.what());
    return {};
  }
}

}  // namespace xlstm
