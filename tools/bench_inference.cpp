// xlstm bench inference: passes that do not train, of a model with random weights
#include <algorithm>

#include "core/parallel.h"
#include "core/text.h"
#include "model/init.h"
#include "tools/bench_ranks.h"
#include "train/evaluate.h"
#include "train/hardware.h"
#include "train/weights.h"

namespace xlstm {

namespace {

constexpr i64 kRepetitions = 5, kMostPrompts = 1024, kMostTokens = 1 << 20;

struct InferenceOptions {
  std::string config;
  std::vector<std::string> set;
  i64 prompts = 1, tokens = 64;
  BenchOutput out;
};

// work() with the tensors that `plan` makes, and scratch memory for it.
template <class Plan, class Work>
double median_seconds(const Machine& machine, PackedWeights* packed, i64 repetitions, const Plan& plan,
                      const Work& work) {
  Buffer memory;
  const auto planned = allocate_planned(memory, "inference", machine.gpu(), plan);
  Arena scratch = Arena::measuring("scratch", machine.device());
  Context ctx = machine.context(scratch);
  ctx.packed = packed;
  work(ctx, planned);
  const Buffer scratch_memory(std::max<i64>(scratch.peak(), 1), machine.gpu());
  scratch = Arena("scratch", scratch_memory.data(), scratch.peak(), machine.device());
  std::vector<double> seconds;
  for (i64 i = 0; i < repetitions + 1; ++i) {
    const Timer timer;
    work(ctx, planned);
    if (machine.gpu()) machine.gpu()->synchronize();
    if (i > 0) seconds.push_back(timer.seconds());
  }
  std::sort(seconds.begin(), seconds.end());
  return seconds[seconds.size() / 2];
}

TokenRows plan_rows(Arena& arena, i64 sequences, i64 length) {
  return {.ids = arena.alloc("ids", DType::i32, sequences * length, 1),
          .targets = arena.alloc("targets", DType::i32, sequences * length, 1),
          .seq = {sequences, length, arena.alloc("starts", DType::i32, sequences * length, 1)}};
}

// One micro-batch with its losses, as an evaluation computes it.
double forward_seconds(const TrainConfig& cfg, const Machine& machine, Weights& weights) {
  const LanguageModel& model = weights.model();
  struct Pass {
    TokenRows in;
    LanguageModel::Saved saved;
    Tensor losses;
  };
  const i64 rows = cfg.train.micro_batch_size * cfg.train.context_length;
  TrainConfig one = cfg;
  one.train.batch_size = cfg.train.micro_batch_size;
  const TokenBatch batch = random_batch(one, {});
  const DType type = activation_type(cfg.run);
  return median_seconds(
      machine, &weights.packed(), kRepetitions,
      [&](Arena& arena) {
        return Pass{plan_rows(arena, cfg.train.micro_batch_size, cfg.train.context_length),
                    model.plan_forward(arena, type, rows), arena.alloc("losses", DType::f32, rows, 1)};
      },
      [&](Context& ctx, const Pass& p) {
        ForwardPass{ctx, model, p.saved, p.in, p.losses}.run(batch);
      });
}

// One token of every prompt, with logits on the host, as a generation computes it.
double token_seconds(const TrainConfig& cfg, const InferenceOptions& o, const Machine& machine,
                     const LanguageModel& model) {
  struct Pass {
    TokenRows token;
    LanguageModel::Saved saved;
    LanguageModel::State state;
    Tensor logits;
  };
  const DType type = activation_type(cfg.run);
  std::vector<float> logits(static_cast<std::size_t>(o.prompts * cfg.model.vocab_size));
  const std::vector<std::int32_t> ids(static_cast<std::size_t>(o.prompts), 1), starts(ids.size(), 0);
  return median_seconds(
      machine, /*packed=*/nullptr, o.tokens,
      [&](Arena& arena) {
        return Pass{plan_rows(arena, o.prompts, 1), model.plan_forward(arena, type, o.prompts),
                    model.plan_state(arena, type, o.prompts),
                    arena.alloc("logits", DType::f32, o.prompts, cfg.model.vocab_size)};
      },
      [&](Context& ctx, const Pass& p) {
        upload(ctx, p.token.ids, ids.data());
        upload(ctx, p.token.seq.starts, starts.data());
        model.step(ctx, p.logits, p.token.ids, p.token.seq, p.saved, p.state);
        download(ctx, logits.data(), p.logits);
      });
}

// What a token has to read, however many prompts share it: all weights but the rows of the embedding.
i64 bytes_per_token(const ParamStore& params, const LanguageModel& model) {
  i64 bytes = 0;
  for (const ParamInfo& info : params.all())
    if (info.param.value.data != model.embedding.value.data) bytes += info.param.value.bytes();
  return bytes;
}

BenchResult bench_inference(const InferenceOptions& o, const TrainConfig& cfg) {
  set_threads(static_cast<int>(o.out.threads > 0 ? o.out.threads : cfg.run.threads));
  const Machine machine(cfg.run);
  Weights weights(cfg.model, cfg.run, machine.gpu());
  std::byte none[1];
  Arena no_scratch("none", none, 0);
  Context ctx = machine.context(no_scratch);
  initialise(ctx, weights.params(), static_cast<std::uint64_t>(cfg.run.seed));
  weights.round(ctx);

  const i64 batch_tokens = cfg.train.micro_batch_size * cfg.train.context_length;
  const double forward = static_cast<double>(batch_tokens) / forward_seconds(cfg, machine, weights);
  const double token = token_seconds(cfg, o, machine, weights.model());
  const double rate = static_cast<double>(o.prompts) / token;
  const i64 bytes = bytes_per_token(weights.params(), weights.model());
  const i64 peak = peak_resident_bytes();
  const double read = static_cast<double>(bytes) / token, limit = measure_read_bytes(machine, 0.3);

  BenchResult r;
  r.text = fmt::format("{}: {}, {}\n", cfg.run.name,
                       names_of(cfg.run.precision)[static_cast<std::size_t>(cfg.run.precision)], machine.name());
  r.text += fmt::format("evaluation: {:.0f} tokens/s ({} at a time)\n", forward, counted(batch_tokens, "token"));
  r.text +=
      fmt::format("generation: {:.1f} tokens/s ({}); {} of weights per pass, {:.1f} GB/s; memory gives {:.1f} GB/s\n",
                  rate, counted(o.prompts, "prompt"), human_bytes(bytes), read / 1e9, limit / 1e9);
  r.json = {{"bench", "inference"},
            {"config", write_config(cfg)},
            {"evaluation_tokens_per_second", forward},
            {"generation_tokens_per_second", rate},
            {"prompts", o.prompts},
            {"weight_bytes", bytes},
            {"weight_bytes_per_second", read},
            {"read_bytes_per_second", limit},
            {"peak_bytes", peak},
            {"threads", max_threads()},
            {"machine", describe_environment(machine)}};
  return r;
}

}  // namespace

void add_bench_inference(CLI::App& bench) {
  auto* cmd = bench.add_subcommand("inference", "Evaluation and generation with random weights: tokens/s");
  auto o = std::make_shared<InferenceOptions>();
  cmd->add_option("--config", o->config, "YAML file (configs/, bench/configs/)")->required();
  cmd->add_option("--set", o->set, "Override a key of the config: key=value; may be repeated");
  cmd->add_option("--prompts", o->prompts, "Texts that are generated together")
      ->check(at_least(1, kMostPrompts))
      ->capture_default_str();
  cmd->add_option("--tokens", o->tokens, "Tokens of each that are timed")
      ->check(at_least(1, kMostTokens))
      ->capture_default_str();
  o->out.add_to(*cmd);
  cmd->footer(
      "Example:\n  xlstm bench inference --config bench/configs/small.yaml --set run.precision=bf16 --prompts 8");
  cmd->callback([o] { publish(bench_inference(*o, load_train_config(o->config, o->set)), o->out.json, o->out.save); });
}

}  // namespace xlstm
