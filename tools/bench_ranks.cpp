#include "tools/bench_ranks.h"

#include <algorithm>
#include <numeric>

#include "core/parallel.h"
#include "core/random.h"
#include "core/text.h"
#include "train/fit.h"
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

// Everything that a rank needs for steps of one config. Nothing is saved here.
class Stepper {
 public:
  Stepper(const TrainConfig& cfg, const Machine& machine, Communicator* ranks)
      : cfg_(cfg),
        here_(ranks ? Ranks{ranks->rank(), ranks->size()} : Ranks{}),
        arenas_(measure_training(cfg_, machine.device(), machine.gpu(), here_), machine.gpu(), /*pin=*/false),
        ctx_(machine.context(arenas_.scratch)),
        state_(arenas_, cfg_, here_),
        step_(ctx_, state_, cfg_, ranks),
        batch_(random_batch(cfg_, here_)) {
    state_.initialise(ctx_, 1);
  }

  // From weights that are there to the next ones there: no forward pass hides their gathering.
  double seconds() {
    const Timer timer;
    step_.run({.batch = batch_, .lr = 1e-4, .update = ++updates_, .scored = cfg_.tokens_per_step()});
    step_.settle();
    if (ctx_.gpu) ctx_.gpu->synchronize();
    return timer.seconds();
  }
  double expected_bytes() const { return exchanged_bytes(state_, cfg_).total(); }

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

// The work of one rank, as a run of its own.
TrainConfig alone(TrainConfig cfg, int ranks) {
  cfg.train.batch_size /= ranks;
  cfg.parallel.reduction_slots = std::max<i64>(1, cfg.parallel.reduction_slots / ranks);
  cfg.parallel.reduction = Reduction::exact;
  return cfg;
}

TrainConfig with(TrainConfig cfg, Reduction r) {
  cfg.parallel.reduction = r;
  return cfg;
}

// Of a rank, at once: its part of both reductions, and on rank 0 the work of one rank alone.
std::vector<ArenaSize> sizes_of_rounds(const TrainConfig& cfg, const Machine& machine, Ranks here) {
  const auto measure = [&](const TrainConfig& c, Ranks r) {
    return measure_training(c, machine.device(), machine.gpu(), r);
  };
  std::vector<ArenaSize> sizes = measure(with(cfg, Reduction::exact), here);
  const auto add = [&](std::vector<ArenaSize> more, bool of_rank_0) {
    more.resize(TrainArenas::kCount);  // the rest is there once, for all
    for (ArenaSize& size : more) size.of_rank_0 = of_rank_0;
    sizes.insert(sizes.end(), more.begin(), more.end());
  };
  add(measure(with(cfg, Reduction::fast), here), /*of_rank_0=*/false);
  if (here.rank == 0) add(measure(alone(cfg, here.size), {}), /*of_rank_0=*/true);
  return sizes;
}

// Every round has one step of each, so that what else the machine does falls on all alike; who begins changes.
class Rounds {
 public:
  Rounds(const TrainConfig& cfg, const Machine& machine, Communicator& ranks, Communicator& on_device)
      : ranks_(ranks),
        moves_(on_device),
        exact_(with(cfg, Reduction::exact), machine, &on_device),
        fast_(with(cfg, Reduction::fast), machine, &on_device),
        single_(ranks.first() ? std::make_unique<Stepper>(alone(cfg, ranks.size()), machine, nullptr) : nullptr) {}

  void run(bool counts, bool fast_first) {
    if (fast_first) shared(fast_, fast, counts);
    shared(exact_, exact, counts);
    if (!fast_first) shared(fast_, fast, counts);
    ranks_.barrier("bench");
    if (const double seconds = single_ ? single_->seconds() : 0; counts) lone.push_back(seconds);
  }

  struct Times {
    std::vector<double> seconds;
    i64 sent = 0;  // bytes of a step
  };
  Times exact, fast;
  std::vector<double> lone;  // one rank with its part of the work, and nobody to talk to; rank 0's
  double expected(Reduction r) const { return (r == Reduction::exact ? exact_ : fast_).expected_bytes(); }

  // Of one rank, as a mean: pieces are not all of one size.
  double mean_sent(const Times& times) const {
    std::vector<i64> all(static_cast<std::size_t>(ranks_.size()));
    ranks_.gather_bytes("bench", &times.sent, all.data(), sizeof times.sent);
    return static_cast<double>(std::accumulate(all.begin(), all.end(), i64{0})) / ranks_.size();
  }

  // Median over rounds: a load that lasts longer than a step is in both.
  double exact_over_fast() const {
    std::vector<double> ratios;
    for (std::size_t i = 0; i < exact.seconds.size(); ++i) ratios.push_back(exact.seconds[i] / fast.seconds[i]);
    return median(ratios);
  }

 private:
  void shared(Stepper& stepper, Times& to, bool counts) {
    ranks_.barrier("bench");
    const i64 before = moves_.sent_bytes();
    const double seconds = stepper.seconds();
    to.sent = moves_.sent_bytes() - before;
    if (counts) to.seconds.push_back(seconds);
  }

  Communicator &ranks_, &moves_;
  Stepper exact_, fast_;
  std::unique_ptr<Stepper> single_;  // rank 0's
};

Json row(const TrainConfig& cfg, const Rounds& rounds, Reduction reduction) {
  const Rounds::Times& times = reduction == Reduction::exact ? rounds.exact : rounds.fast;
  const double seconds = median(times.seconds);
  return {{"seconds_per_step", seconds},
          {"all_seconds", times.seconds},
          {"tokens_per_second", static_cast<double>(cfg.tokens_per_step()) / seconds},
          {"weak_scaling", median(rounds.lone) / seconds},
          {"sent_bytes", rounds.mean_sent(times)},
          {"sent_bytes_of_gradients", reduction == Reduction::exact ? "counted" : "by formula"},
          {"expected_bytes", rounds.expected(reduction)}};
}

}  // namespace

BenchResult bench_ranks(const TrainConfig& asked, i64 steps, i64 warmup, const Machine& machine, Communicator& ranks) {
  TrainConfig cfg = asked;
  cfg.eval.prompts.clear();  // nothing is drawn
  ranks.together("plan", [&] {
    expect_fit("this benchmark (a run with each reduction, and rank 0's part alone)",
               sizes_of_rounds(cfg, machine, {ranks.rank(), ranks.size()}),
               AvailableMemory::of(machine, ranks.on_this_host()),
               [] { return "a smaller train.micro_batch_size or another train.recompute needs less"; });
  });
  const std::unique_ptr<Communicator> on_device = machine.gpu() ? ranks.on_device(*machine.gpu()) : nullptr;
  Rounds rounds(cfg, machine, ranks, on_device ? *on_device : ranks);
  for (i64 i = 0; i < warmup + steps; ++i) rounds.run(/*counts=*/i >= warmup, /*fast_first=*/i % 2 != 0);

  const double ratio = rounds.exact_over_fast();
  BenchResult r;
  r.json = {{"ranks", ranks.size()},
            {"threads_per_rank", max_threads()},
            {"seconds_alone", median(rounds.lone)},
            {"exact", row(cfg, rounds, Reduction::exact)},
            {"fast", row(cfg, rounds, Reduction::fast)},
            {"exact_over_fast", ratio}};
  r.text = fmt::format("{} ranks, {} each; one rank alone with its part: {:.4f} s per step\n", ranks.size(),
                       counted(max_threads(), "thread"), median(rounds.lone));
  for (const char* name : {"exact", "fast"}) {
    const Json& j = r.json[name];
    r.text += fmt::format("{:<6}{:>9.4f} s per step, {:>5.1f} % weak scaling, {} sent per rank and step ({})\n", name,
                          j["seconds_per_step"].get<double>(), 100 * j["weak_scaling"].get<double>(),
                          human_bytes(static_cast<i64>(j["sent_bytes"].get<double>())),
                          std::string(name) == "exact" ? "counted" : "gradients by a ring's formula");
  }
  r.text += fmt::format("exact costs {:+.1f} % of a step over fast\n", 100 * (ratio - 1));
  return r;
}

}  // namespace xlstm
