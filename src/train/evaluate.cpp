#include "train/evaluate.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numbers>

#include "train/token_rows.h"

namespace xlstm {

namespace {

// Sums in the order of the windows, in double.
struct Sums {
  Sums(i64 length, i64 vocab)
      : position(static_cast<std::size_t>(length), 0.0), count(static_cast<std::size_t>(vocab), 0) {}

  void add(const std::vector<std::int32_t>& targets, const std::vector<float>& losses, const std::vector<int>& bytes_of,
           i64 more_windows) {
    for (std::size_t r = 0; r < targets.size(); ++r) {
      if (targets[r] < 0) continue;
      const double loss = static_cast<double>(losses[r]);
      total += loss;
      position[r % position.size()] += loss;
      ++tokens;
      ++count[static_cast<std::size_t>(targets[r])];
      if (!bytes_of.empty()) bytes += bytes_of.at(static_cast<std::size_t>(targets[r]));
    }
    windows += more_windows;
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

namespace {

// What ranks tell each other of a batch, and what one keeps of its own.
struct ScoredBatch {
  i64 windows = 0;  // 0: the data set is at its end
  bool stop = false;
  std::vector<std::int32_t> targets;
  std::vector<float> losses;
};

// The batches of one rank: number rank, rank + size, ... of the data set.
class ScoredBatches {
 public:
  ScoredBatches(const ForwardPass& pass, const Dataset& data, const EvaluationOptions& o)
      : pass_(pass), options_(o), rank_(o.ranks ? o.ranks->rank() : 0), size_(o.ranks ? o.ranks->size() : 1) {
    const i64 each = pass.in.seq.sequences;
    const Windows all{data.total_tokens(), pass.in.seq.length};
    check_window_fits(data, pass.in.seq.length);
    left_ = o.windows > 0 ? std::min(o.windows, all.count()) : all.count();
    next_ = rank_ * each;
    if (next_ < left_)
      loader_.emplace(data, LoaderOptions{.context_length = pass.in.seq.length,
                                          .batch_size = each * size_,
                                          .begin = rank_ * each,
                                          .end = (rank_ + 1) * each,
                                          .order = LoaderOptions::Order::sequential});
  }

  i64 windows() const { return left_; }

  ScoredBatch next() {
    ScoredBatch out;
    out.stop = options_.stop && options_.stop();
    if (out.stop || next_ >= left_ || !loader_->next(batch_)) return out;
    batch_.sequences = std::min(batch_.sequences, left_ - next_);
    const auto rows = static_cast<std::size_t>(batch_.sequences * batch_.length);
    for (auto* v : {&batch_.ids, &batch_.targets, &batch_.starts}) v->resize(rows);
    next_ += pass_.in.seq.sequences * size_;
    out.windows = batch_.sequences;
    out.losses = pass_.run(batch_);
    out.losses.resize(rows);
    out.targets = batch_.targets;
    return out;
  }

 private:
  const ForwardPass& pass_;
  const EvaluationOptions& options_;
  i64 rank_, size_, left_ = 0, next_ = 0;  // windows in all; number of the next one here
  std::optional<Loader> loader_;
  TokenBatch batch_;
};

std::string packed(const ScoredBatch& b) {
  const auto bytes = [](const auto& v) {
    return std::string_view(reinterpret_cast<const char*>(v.data()), v.size() * sizeof v[0]);
  };
  const std::array head{b.windows, static_cast<i64>(b.stop)};
  return std::string(bytes(head)).append(bytes(b.targets)).append(bytes(b.losses));
}

ScoredBatch unpacked(const std::string& text) {
  ScoredBatch b;
  std::array<i64, 2> head{};
  std::memcpy(head.data(), text.data(), sizeof head);
  b.windows = head[0];
  b.stop = head[1] != 0;
  const std::size_t rows = (text.size() - sizeof head) / (sizeof(std::int32_t) + sizeof(float));
  b.targets.resize(rows);
  b.losses.resize(rows);
  if (rows == 0) return b;
  std::memcpy(b.targets.data(), text.data() + sizeof head, rows * sizeof(std::int32_t));
  std::memcpy(b.losses.data(), text.data() + sizeof head + rows * sizeof(std::int32_t), rows * sizeof(float));
  return b;
}

// One batch of every rank, in order.
std::vector<ScoredBatch> next_round(ScoredBatches& batches, Communicator* ranks) {
  if (!ranks || ranks->size() == 1) return {batches.next()};
  ScoredBatch mine;
  ranks->together("evaluation", [&] { mine = batches.next(); });
  std::vector<ScoredBatch> all;
  for (const std::string& text : ranks->gather_texts("evaluation", packed(mine))) all.push_back(unpacked(text));
  return all;
}

}  // namespace

std::optional<Evaluation> evaluate(const ForwardPass& pass, const Dataset& data, const EvaluationOptions& options) {
  ScoredBatches batches(pass, data, options);
  Sums sums(pass.in.seq.length, data.vocab_size());
  while (sums.windows < batches.windows()) {
    const std::vector<ScoredBatch> round = next_round(batches, options.ranks);
    if (std::any_of(round.begin(), round.end(), [](const ScoredBatch& b) { return b.stop; })) return std::nullopt;
    for (const ScoredBatch& b : round) sums.add(b.targets, b.losses, options.token_bytes, b.windows);
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
  Context ctx = loaded.context(scratch);
  return evaluate({ctx, loaded.model(), m.saved, m.in, m.losses}, data, options);
}

}  // namespace xlstm
