#include "train/generate.h"

#include <algorithm>

#include "core/parallel.h"

namespace xlstm {

namespace {

constexpr i64 kPrefillTokens = 512;  // of one pass; longer prompts go through in pieces, state passed on

// Everything a generation needs, in one buffer.
struct Memory {
  TokenRows prompt, token;
  Tensor prompt_area;  // raw bytes: activations of a prompt's piece, whatever its length
  LanguageModel::Saved token_saved;
  LanguageModel::State state, one_state, next_state;  // of all prompts; of one prompt, before and after a piece
  Tensor logits;                                      // (prompts, vocab)
};

TokenRows plan_rows(Arena& arena, i64 sequences, i64 length) {
  const i64 rows = sequences * length;
  return {.ids = arena.alloc("ids", DType::i32, rows, 1),
          .targets = {},
          .seq = {sequences, length, arena.alloc("starts", DType::i32, rows, 1)}};
}

Memory plan_memory(Arena& arena, const LanguageModel& model, DType type, i64 prompts, i64 longest) {
  const i64 piece = std::min(longest, kPrefillTokens);
  Arena activations = Arena::measuring("prefill");
  model.plan_forward(activations, type, piece);
  return {.prompt = plan_rows(arena, 1, piece),
          .token = plan_rows(arena, prompts, 1),
          .prompt_area = arena.alloc("prefill", DType::f32, 1, activations.peak() / size_of(DType::f32)),
          .token_saved = model.plan_forward(arena, type, prompts),
          .state = model.plan_state(arena, type, prompts),
          .one_state = model.plan_state(arena, type, 1),
          .next_state = model.plan_state(arena, type, 1),
          .logits = arena.alloc("logits", DType::f32, prompts, model.cfg.vocab_size)};
}

// The rows of `all` that belong to one sequence.
Tensor rows_of(Tensor all, i64 sequence, Tensor one) {
  return one.rows == 0 ? Tensor{} : all.slice_rows(sequence * one.rows, (sequence + 1) * one.rows);
}

void copy_state(Context& ctx, const LanguageModel::State& to, i64 sequence, const LanguageModel::State& from) {
  for (std::size_t l = 0; l < to.size(); ++l) {
    const CellState &a = std::get<CellState>(to[l]), &b = std::get<CellState>(from[l]);
    for (const auto& [t, f] : {std::pair{a.c, b.c}, std::pair{a.n, b.n}, std::pair{a.m, b.m}})
      if (f.rows > 0) ops::copy(ctx, rows_of(t, sequence, f), f);
  }
}

LanguageModel::State absent_state(const LanguageModel& model) {
  return LanguageModel::State(model.blocks.size(), CellState{});
}

// What stands in data: tokens that stand for bytes, and the end of a document. Not "unknown", no other control piece,
// nothing of what pads the model's vocabulary: those were never targets.
std::vector<int> ids_in_data(const Tokenizer& tokenizer) {
  const std::vector<int> bytes = tokenizer.token_bytes();
  std::vector<int> ids;
  for (int id = 0; id < tokenizer.vocab_size(); ++id)
    if (bytes[static_cast<std::size_t>(id)] > 0 || id == tokenizer.eod_id()) ids.push_back(id);
  return ids;
}

// What the operations of a generation need beside it.
i64 scratch_bytes(const LanguageModel& model, DType type, const Memory& memory, Context dry) {
  Arena scratch = Arena::measuring("scratch", dry.device), prefill = Arena::measuring("prefill", dry.device);
  dry.scratch = &scratch;
  model.prefill(dry, memory.logits.slice_rows(0, 1), memory.prompt.ids, memory.prompt.seq,
                model.plan_forward(prefill, type, memory.prompt.ids.rows), memory.next_state, memory.one_state);
  model.step(dry, memory.logits, memory.token.ids, memory.token.seq, memory.token_saved, memory.state);
  return std::max<i64>(scratch.peak(), 1);
}

}  // namespace

i64 generation_bytes(const LanguageModel& model, DType type, i64 prompts, i64 longest, Context dry) {
  Arena all = Arena::measuring("generation", dry.device);
  const Memory memory = plan_memory(all, model, type, prompts, longest);
  return std::max<i64>(all.peak(), 1) + scratch_bytes(model, type, memory, dry);
}

class Generator::Generation {
 public:
  Generation(const ModelInUse& in_use, const Tokenizer& tokenizer, std::vector<std::vector<int>> prompts,
             const GenerateConfig& cfg)
      : model_(in_use.model),
        type_(in_use.type),
        prompts_(std::move(prompts)),
        cfg_(cfg),
        eod_id_(tokenizer.eod_id()),
        ids_in_data_(ids_in_data(tokenizer)),
        sampler_(cfg.sampling, ids_in_data_) {
    XL_CHECK(tokenizer.vocab_size() <= model_.cfg.vocab_size, "{} tokens for a model of {}", tokenizer.vocab_size(),
             model_.cfg.vocab_size);
    const i64 count = static_cast<i64>(prompts_.size());
    i64 longest = 0;
    for (const auto& prompt : prompts_) longest = std::max(longest, static_cast<i64>(prompt.size()));
    const Machine& machine = in_use.machine;
    memory_ = allocate_planned(buffer_, "generation", machine.gpu(),
                               [&](Arena& a) { return plan_memory(a, model_, type_, count, longest); });

    const i64 scratch = scratch_bytes(model_, type_, memory_, machine.context(scratch_));
    scratch_buffer_ = Buffer(scratch, machine.gpu());
    scratch_ = Arena("scratch", scratch_buffer_.data(), scratch, machine.device());
    ctx_ = machine.context(scratch_);
    ctx_.packed = in_use.packed;
  }

  GenerateReport run(std::uint64_t seed, const std::function<void(std::size_t, int)>& on_token) {
    cfg_.sampling.seed = seed;
    sampler_ = Sampler(cfg_.sampling, ids_in_data_);
    GenerateReport report;
    const Timer prefill_timer;
    for (std::size_t p = 0; p < prompts_.size(); ++p) {
      prefill(p);
      report.prompt_tokens += static_cast<i64>(prompts_[p].size());
    }
    report.prefill_seconds = prefill_timer.seconds();

    const Timer decode_timer;
    std::vector<bool> ended(prompts_.size(), false);
    for (i64 position = 0; position < cfg_.max_tokens; ++position) {
      report.new_tokens += draw(position, ended, on_token);
      if (std::all_of(ended.begin(), ended.end(), [](bool e) { return e; }) || position + 1 == cfg_.max_tokens) break;
      model_.step(ctx_, memory_.logits, memory_.token.ids, memory_.token.seq, memory_.token_saved, memory_.state);
    }
    report.decode_seconds = decode_timer.seconds();
    return report;
  }

  i64 bytes() const { return buffer_.bytes() + scratch_buffer_.bytes(); }

 private:
  void prefill(std::size_t p) {
    const std::vector<int>& prompt = prompts_[p];
    const i64 row = static_cast<i64>(p), total = static_cast<i64>(prompt.size());
    const LanguageModel::State nothing = absent_state(model_);
    const LanguageModel::State *before = &nothing, *after = &memory_.next_state;
    for (i64 at = 0; at < total;) {
      const i64 length = std::min(total - at, kPrefillTokens);
      const Tensor ids = memory_.prompt.ids.slice_rows(0, length),
                   starts = memory_.prompt.seq.starts.slice_rows(0, length);
      std::vector<std::int32_t> piece, opens;
      for (i64 t = at; t < at + length; ++t) {
        piece.push_back(prompt[static_cast<std::size_t>(t)]);
        // As in training: the state is dropped at the first token and at every document's end token.
        opens.push_back(t == 0 || piece.back() == eod_id_);
      }
      upload(ctx_, ids, piece.data());
      upload(ctx_, starts, opens.data());
      model_.prefill(ctx_, memory_.logits.slice_rows(row, row + 1), ids, {1, length, starts},
                     prefill_activations(length), *after, *before);
      before = after;
      after = after == &memory_.next_state ? &memory_.one_state : &memory_.next_state;
      at += length;
    }
    copy_state(ctx_, memory_.state, row, *before);
  }

  LanguageModel::Saved prefill_activations(i64 length) const {
    Arena arena("prefill", memory_.prompt_area.data, memory_.prompt_area.bytes(), ctx_.device);
    return model_.plan_forward(arena, type_, length);
  }

  // Draws a token for every prompt that goes on, and puts it where step() reads it.
  i64 draw(i64 position, std::vector<bool>& ended, const std::function<void(std::size_t, int)>& on_token) {
    i64 drawn = 0;
    logits_.resize(static_cast<std::size_t>(memory_.logits.size()));
    ids_.resize(prompts_.size());
    starts_.resize(prompts_.size());
    download(ctx_, logits_.data(), memory_.logits);
    for (std::size_t p = 0; p < prompts_.size(); ++p) {
      if (ended[p]) continue;
      const float* const row = logits_.data() + static_cast<i64>(p) * memory_.logits.cols;
      const int id = ids_[p] = sampler_.sample(row, p, static_cast<std::uint64_t>(position));
      starts_[p] = id == eod_id_;
      ended[p] = id == eod_id_ && !cfg_.endless;
      ++drawn;
      on_token(p, id);
    }
    upload(ctx_, memory_.token.ids, ids_.data());
    upload(ctx_, memory_.token.seq.starts, starts_.data());
    return drawn;
  }

  const LanguageModel& model_;
  DType type_;
  const std::vector<std::vector<int>> prompts_;
  GenerateConfig cfg_;
  int eod_id_;
  std::vector<int> ids_in_data_;
  Sampler sampler_;
  Buffer buffer_, scratch_buffer_;
  Memory memory_;
  std::vector<float> logits_;
  std::vector<std::int32_t> ids_, starts_;  // of the next token, as step() reads them
  Arena scratch_ = Arena::measuring("scratch");
  Context ctx_;
};

Generator::Generator(const ModelInUse& in_use, const Tokenizer& tokenizer, std::vector<std::vector<int>> prompts,
                     const GenerateConfig& cfg)
    : generation_(std::make_unique<Generation>(in_use, tokenizer, std::move(prompts), cfg)) {}

Generator::~Generator() = default;

GenerateReport Generator::run(std::uint64_t seed, const std::function<void(std::size_t, int)>& on_token) {
  return generation_->run(seed, on_token);
}

i64 Generator::bytes() const { return generation_->bytes(); }

std::vector<std::vector<int>> encode_prompts(const Tokenizer& tokenizer, const std::vector<std::string>& prompts) {
  std::vector<std::vector<int>> ids;
  for (const std::string& prompt : prompts) {
    ids.push_back({tokenizer.eod_id()});
    const std::vector<int> rest = tokenizer.encode(prompt);
    ids.back().insert(ids.back().end(), rest.begin(), rest.end());
  }
  return ids;
}

GenerateReport generate(const LoadedModel& model, const Tokenizer& tokenizer,
                        const std::vector<std::vector<int>>& prompts, const GenerateConfig& cfg,
                        const std::function<void(std::size_t, int)>& on_token) {
  return Generator({model.model(), model.activation_type(), model.machine(), model.packed()}, tokenizer, prompts, cfg)
      .run(cfg.sampling.seed, on_token);
}

}  // namespace xlstm
