// Generation (prefill in pieces, then steps with a carried state) says what one pass over all tokens says.
#include "train/generate.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "tests/train/loaded_rig.h"

namespace xlstm {
namespace {

using Ids = std::vector<int>;

int eod() { return sample_tokenizer().eod_id(); }

// As `xlstm generate` encodes it, of exactly `length` tokens.
Ids prompt_of(std::size_t length, int first_document = 0) {
  Ids ids{eod()};
  for (const std::string& text : sample_documents(60)) {
    if (first_document-- > 0) continue;
    const Ids more = sample_tokenizer().encode(text);
    ids.insert(ids.end(), more.begin(), more.end());
  }
  ids.resize(length);
  return ids;
}

std::vector<Ids> generated(const LoadedModel& model, const std::vector<Ids>& prompts, const GenerateConfig& cfg) {
  std::vector<Ids> out(prompts.size());
  const GenerateReport report =
      generate(model, sample_tokenizer(), prompts, cfg, [&](std::size_t p, int id) { out[p].push_back(id); });
  i64 read = 0, drawn = 0;
  for (std::size_t p = 0; p < prompts.size(); ++p) {
    read += static_cast<i64>(prompts[p].size());
    drawn += static_cast<i64>(out[p].size());
  }
  EXPECT_EQ(report.prompt_tokens, read);
  EXPECT_EQ(report.new_tokens, drawn);
  return out;
}

// What stands in data; written apart from the code under test.
Ids ids_of_text() {
  Ids ids;
  for (int id = 0; id < sample_tokenizer().vocab_size(); ++id)
    if (id == eod() || !sample_tokenizer().decode({id}).empty()) ids.push_back(id);
  return ids;
}

// Every token of `out` is the one that the sampler draws from the logits of one pass over all before it.
void expect_one_pass(const LoadedModel& model, Ids ids, const Ids& out, const SamplingConfig& sampling,
                     std::size_t sequence = 0) {
  Sampler sampler(sampling, ids_of_text());
  for (std::size_t i = 0; i < out.size(); ++i) {
    ASSERT_EQ(out[i], sampler.sample(logits_after(model, ids).data(), sequence, i)) << "new token " << i;
    ids.push_back(out[i]);
  }
}

TEST(Generate, GreedyIsTheLargestLogit) {
  const Ids prompt = prompt_of(20);
  const Ids out = generated(loaded_model(), {prompt}, {.sampling = {.temperature = 0}, .max_tokens = 30})[0];
  ASSERT_FALSE(out.empty());
  Ids ids = prompt;
  for (const int id : out) {
    std::vector<float> logits = logits_after(loaded_model(), ids);
    logits[1] = -INFINITY;  // "unknown"
    EXPECT_EQ(id, std::max_element(logits.begin(), logits.end()) - logits.begin());
    ids.push_back(id);
  }
}

// A piece has 512 tokens; its state passes between two places.
TEST(Generate, LongPromptsGoThroughInPieces) {
  const SamplingConfig sampling{.seed = 4};
  for (const std::size_t length : {1u, 511u, 512u, 513u, 1024u, 1100u, 1600u}) {
    SCOPED_TRACE(length);
    const Ids prompt = prompt_of(length);
    const Ids out = generated(loaded_model(), {prompt}, {.sampling = sampling, .max_tokens = 12})[0];
    expect_one_pass(loaded_model(), prompt, out, sampling);
  }
}

// Whatever lies beside it, of whatever length: sequence p of a batch draws with the random numbers of p.
TEST(Generate, APromptOfABatchIsAPromptAlone) {
  const std::vector<Ids> prompts{prompt_of(7), prompt_of(530, 3), prompt_of(1), prompt_of(40, 9)};
  const SamplingConfig sampling{.temperature = 0.9, .top_k = 50, .top_p = 0.9, .seed = 8};
  const std::vector<Ids> out = generated(loaded_model(), prompts, {.sampling = sampling, .max_tokens = 24});
  for (std::size_t p = 0; p < prompts.size(); ++p) {
    SCOPED_TRACE(p);
    expect_one_pass(loaded_model(), prompts[p], out[p], sampling, p);
  }
  EXPECT_EQ(generated(loaded_model(), {prompts[0]}, {.sampling = sampling, .max_tokens = 24})[0], out[0]);
}

// While it lives, the end of a document has larger logits, and so comes in every text.
class EndsOften {
 public:
  EndsOften() { scale(4.f); }
  ~EndsOften() { scale(0.25f); }
  EndsOften(const EndsOften&) = delete;
  EndsOften& operator=(const EndsOften&) = delete;

 private:
  static void scale(float by) {
    const Tensor w = loaded_model().model().head.out.w.value;
    for (i64 c = 0; c < w.cols; ++c) w.row<float>(eod())[c] *= by;
  }
};

// Behind the end of a document stands a fresh state, as in training: the old document's text has no say in the new one.
TEST(Generate, EndlessBeginsAFreshDocument) {
  const EndsOften scope;
  const SamplingConfig sampling{.seed = 2};
  const std::vector<Ids> prompts{prompt_of(9), prompt_of(6, 2)};
  const std::vector<Ids> out =
      generated(loaded_model(), prompts, {.sampling = sampling, .max_tokens = 60, .endless = true});
  for (std::size_t p = 0; p < prompts.size(); ++p) {
    SCOPED_TRACE(p);
    ASSERT_EQ(out[p].size(), 60u);
    ASSERT_GT(std::count(out[p].begin(), out[p].end() - 5, eod()), 0);
    EXPECT_LT(std::count(out[p].begin(), out[p].end(), eod()), 30);
    expect_one_pass(loaded_model(), prompts[p], out[p], sampling, p);
    // And so what follows the last of them is what follows it alone.
    const auto last = std::find(out[p].rbegin(), out[p].rend(), eod()).base();
    Sampler sampler(sampling, ids_of_text());
    for (auto id = last; id != out[p].end(); ++id) {
      Ids fresh{eod()};
      fresh.insert(fresh.end(), last, id);
      const auto position = static_cast<std::uint64_t>(id - out[p].begin());
      EXPECT_EQ(*id, sampler.sample(logits_after(loaded_model(), fresh).data(), p, position));
    }
  }
}

TEST(Generate, OtherwiseATextEndsWithItsDocument) {
  const EndsOften scope;
  const std::vector<Ids> prompts{prompt_of(9), prompt_of(6, 2), prompt_of(4, 5)};
  const GenerateConfig cfg{.sampling = {.seed = 2}, .max_tokens = 500};
  for (const Ids& out : generated(loaded_model(), prompts, cfg)) {
    EXPECT_LT(out.size(), 500u);
    EXPECT_EQ(std::count(out.begin(), out.end(), eod()), 1);
    EXPECT_EQ(out.back(), eod());
  }
}

// With every logit worth nearly the same, all tokens of text come, and nothing else: no control piece, no padding.
TEST(Generate, DrawsOnlyWhatStandsInData) {
  const std::vector<Ids> prompts(8, prompt_of(3));
  const GenerateConfig cfg{.sampling = {.temperature = 1e6}, .max_tokens = 800, .endless = true};
  std::set<int> drawn;
  for (const Ids& out : generated(loaded_model(/*padding=*/100), prompts, cfg)) drawn.insert(out.begin(), out.end());
  const Ids allowed = ids_of_text();
  EXPECT_EQ(drawn, std::set<int>(allowed.begin(), allowed.end()));
}

}  // namespace
}  // namespace xlstm
