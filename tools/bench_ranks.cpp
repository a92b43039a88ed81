#include "tools/bench_ranks.h"

#include <algorithm>

#include "core/parallel.h"
#include "core/random.h"
#include "core/text.h"
#include "train/agreement.h"
#include "train/hardware.h"
#include "train/step.h"

namespace xlstm {

TokenBatch random_batch(const TrainConfig& cfg, Ranks ranks) {
  TokenBatch batch;
  batch.sequences = cfg.train.batch_size / ranks.size;
  batch.length = cfg.train.context_length;
  const auto n = static_cast<std::size_t>(batch.sequences * batch.length);
  const RandomStream random(1, RandomUse::bench, static_cast<std::uint64_t>(ranks.rank));
  const auto token = [&](std::size_t i) {
    return static_cast<std::int32_t>(random.bits(i) % static_cast<std::uint64_t>(cfg.model.vocab_size));
  };
  for (std::size_t i = 0; i < n; ++i) {
    batch.ids.push_back(token(i));
    batch.targets.push_back(token(i + 1));
    batch.starts.push_back(i % static_cast<std::size_t>(batch.length) == 0);
  }
  return batch;
}

namespace {

// Everything that a rank needs for steps of one config.
class Stepper {
 public:
  Stepper(const TrainConfig& cfg, const Machine& machine, Communicator* ranks)
      : cfg_(cfg),
        here_(ranks ? Ranks{ranks->rank(), ranks->size()} : Ranks{}),
        arenas_(measure_training(cfg_, machine.device(), machine.gpu(), here_), machine.gpu()),
        ctx_(machine.context(arenas_.scratch)),
        state_(arenas_, cfg_, here_),
        step_(ctx_, state_, cfg_, ranks),
        batch_(random_batch(cfg_, here_)) {
    state_.initialise(ctx_, 1);
  }

  // Of a step with the weights there, and the next ones there again.
  double seconds() {
    const Timer timer;
    step_.run({.batch = batch_, .lr = 1e-4, .update = ++updates_, .scored = cfg_.tokens_per_step()});
    if (ctx_.gpu) ctx_.gpu->synchronize();
    return timer.seconds();
  }
  void settle() { step_.settle(); }
  const TrainState& state() const { return state_; }

 private:
  TrainConfig cfg_;
  Ranks here_;
  TrainArenas arenas_;
  Context ctx_;
  TrainState state_;
  TrainStep step_;
  TokenBatch batch_;
  i64 updates_ = 0;
};

double median(std::vector<double> seconds) {
  std::sort(seconds.begin(), seconds.end());
  return seconds[seconds.size() / 2];
}

// What docs/scaling.md says that a rank sends in a step, besides sums of squares and losses.
double expected_bytes(const TrainState& s, Communicator& ranks, Reduction reduction, double weight_bytes) {
  const double p = static_cast<double>(s.params.flat_size()), r = ranks.size(), other = (r - 1) / r;
  return (reduction == Reduction::exact ? 4 : 8) * p * other + weight_bytes * p * other;
}

// The work of one rank, as a run of its own.
TrainConfig alone(TrainConfig cfg, int ranks) {
  cfg.train.batch_size /= ranks;
  cfg.parallel.reduction_slots = std::max<i64>(1, cfg.parallel.reduction_slots / ranks);
  cfg.parallel.reduction = Reduction::exact;
  return cfg;
}

}  // namespace

// Turn by turn, so that what else the machine does falls on all alike.
BenchResult bench_ranks(const TrainConfig& cfg, i64 steps, i64 warmup, const Machine& machine, Communicator& ranks) {
  const auto with = [&](Reduction r) {
    TrainConfig c = cfg;
    c.parallel.reduction = r;
    return c;
  };
  check_ranks(with(Reduction::exact), ranks.size());
  const std::unique_ptr<Communicator> on_device = machine.gpu() ? ranks.on_device(*machine.gpu()) : nullptr;
  Communicator& all = on_device ? *on_device : ranks;
  Stepper exact(with(Reduction::exact), machine, &all), fast(with(Reduction::fast), machine, &all);
  Stepper single(alone(cfg, ranks.size()), machine, nullptr);

  std::vector<double> times[3];
  i64 sent[2] = {0, 0};
  for (i64 i = 0; i < warmup + steps; ++i) {
    const auto measure = [&](std::size_t which, Stepper& stepper) {
      ranks.barrier("bench");
      const i64 before = all.sent_bytes();
      const double seconds = stepper.seconds();
      if (which < 2) sent[which] = all.sent_bytes() - before;
      stepper.settle();
      if (i >= warmup) times[which].push_back(seconds);
    };
    measure(0, exact);
    measure(1, fast);
    ranks.barrier("bench");
    if (ranks.first())
      measure(2, single);
    else
      ranks.barrier("bench");
  }

  const double e = median(times[0]), f = median(times[1]), s = ranks.first() ? median(times[2]) : 0;
  const double weight_bytes = exact.state().sharded ? (exact.state().params.flat_rounded().rows > 0 ? 2 : 4) : 4;
  const auto row = [&](const char* name, double seconds, Reduction reduction, i64 bytes) {
    return Json{{"reduction", name},
                {"seconds_per_step", seconds},
                {"tokens_per_second", static_cast<double>(cfg.tokens_per_step()) / seconds},
                {"weak_scaling", s / seconds},
                {"sent_bytes", bytes},
                {"expected_bytes", expected_bytes(exact.state(), ranks, reduction, weight_bytes)}};
  };
  BenchResult r;
  r.json = {{"ranks", ranks.size()},
            {"threads_per_rank", max_threads()},
            {"seconds_alone", s},
            {"exact", row("exact", e, Reduction::exact, sent[0])},
            {"fast", row("fast", f, Reduction::fast, sent[1])},
            {"exact_over_fast", e / f}};
  r.text = fmt::format("{} ranks, {} each; one rank alone with its part: {:.4f} s per step\n", ranks.size(),
                       counted(max_threads(), "thread"), s);
  for (const char* name : {"exact", "fast"}) {
    const Json& j = r.json[name];
    r.text += fmt::format("{:<6}{:>9.4f} s per step, {:>5.1f} % weak scaling, {} sent per rank and step\n", name,
                          j["seconds_per_step"].get<double>(), 100 * j["weak_scaling"].get<double>(),
                          human_bytes(j["sent_bytes"].get<i64>()));
  }
  r.text += fmt::format("exact costs {:+.1f} % of a step over fast\n", 100 * (e / f - 1));
  return r;
}

}  // namespace xlstm
