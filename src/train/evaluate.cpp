#include "train/evaluate.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "train/token_rows.h"

namespace xlstm {

namespace {

// Sums in the order of the windows, in double.
struct Sums {
  Sums(i64 length, i64 vocab)
      : position(static_cast<std::size_t>(length), 0.0), count(static_cast<std::size_t>(vocab), 0) {}

  void add(const TokenBatch& batch, const std::vector<float>& losses, const std::vector<int>& bytes_of) {
    for (std::size_t r = 0; r < batch.targets.size(); ++r) {
      if (batch.targets[r] < 0) continue;
      const double loss = static_cast<double>(losses[r]);
      total += loss;
      position[r % position.size()] += loss;
      ++tokens;
      ++count[static_cast<std::size_t>(batch.targets[r])];
      if (!bytes_of.empty()) bytes += bytes_of.at(static_cast<std::size_t>(batch.targets[r]));
    }
    windows += batch.sequences;
  }

  // Bits of all scored tokens over bytes of the text that they were made from.
  double bits_per_byte(double text_bytes_per_token_byte) const {
    return bytes > 0 ? total / std::numbers::ln2 / (static_cast<double>(bytes) * text_bytes_per_token_byte) : 0;
  }

  double unigram_entropy() const {
    double sum = 0;
    for (const i64 c : count)
      if (c > 0) sum += static_cast<double>(c) * std::log(static_cast<double>(tokens) / static_cast<double>(c));
    return tokens > 0 ? sum / static_cast<double>(tokens) : 0;
  }

  double total = 0;
  i64 tokens = 0, bytes = 0, windows = 0;
  std::vector<double> position;
  std::vector<i64> count;  // of each target
};

}  // namespace

std::vector<float> ForwardPass::run(const TokenBatch& batch) const {
  upload_batch(ctx, in, batch);
  model.forward(ctx, losses, in, saved);
  std::vector<float> out(static_cast<std::size_t>(losses.rows));
  download(ctx, out.data(), losses);
  return out;
}

std::optional<Evaluation> evaluate(const ForwardPass& pass, const Dataset& data, const EvaluationOptions& options) {
  Loader loader(data, {.context_length = pass.in.seq.length,
                       .batch_size = pass.in.seq.sequences,
                       .order = LoaderOptions::Order::sequential});
  const i64 wanted = options.windows > 0 ? std::min(options.windows, loader.windows()) : loader.windows();
  Sums sums(pass.in.seq.length, data.vocab_size());
  for (TokenBatch batch; sums.windows < wanted && loader.next(batch);) {
    if (options.stop && options.stop()) return std::nullopt;
    const i64 rows = std::min(batch.sequences, wanted - sums.windows) * batch.length;
    batch.sequences = rows / batch.length;
    for (auto* v : {&batch.ids, &batch.targets, &batch.starts}) v->resize(static_cast<std::size_t>(rows));
    sums.add(batch, pass.run(batch), options.token_bytes);
  }

  Evaluation e{.loss = sums.tokens > 0 ? sums.total / static_cast<double>(sums.tokens) : 0,
               .tokens = sums.tokens,
               .unigram_entropy = sums.unigram_entropy(),
               .bits_per_byte = sums.bits_per_byte(data.text_bytes_per_token_byte()),
               .loss_by_position = std::move(sums.position)};
  for (double& loss : e.loss_by_position) loss /= static_cast<double>(std::max<i64>(1, sums.windows));
  return e;
}

std::optional<Evaluation> evaluate(const LoadedModel& loaded, const Dataset& data, i64 length, i64 batch,
                                   const EvaluationOptions& options) {
  const i64 rows = batch * length;
  struct Memory {
    TokenRows in;
    LanguageModel::Saved saved;
    Tensor losses;
  };
  Buffer buffer;
  const Memory m = allocate_planned(buffer, "evaluation", loaded.machine().gpu(), [&](Arena& a) {
    return Memory{.in = {.ids = a.alloc("ids", DType::i32, rows, 1),
                         .targets = a.alloc("targets", DType::i32, rows, 1),
                         .seq = {batch, length, a.alloc("starts", DType::i32, rows, 1)}},
                  .saved = loaded.model().plan_forward(a, loaded.activation_type(), rows),
                  .losses = a.alloc("losses", DType::f32, rows, 1)};
  });
  const Machine& machine = loaded.machine();
  Arena measured = Arena::measuring("scratch", machine.device());
  Context dry = machine.context(measured);
  loaded.model().forward(dry, m.losses, m.in, m.saved);
  const Buffer scratch_buffer(std::max<i64>(measured.peak(), 1), machine.gpu());
  Arena scratch("scratch", scratch_buffer.data(), measured.peak(), machine.device());
  Context ctx = machine.context(scratch);
  return evaluate({ctx, loaded.model(), m.saved, m.in, m.losses}, data, options);
}

}  // namespace xlstm
