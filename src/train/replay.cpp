#include "train/replay.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "core/parallel.h"
#include "train/agreement.h"
#include "train/fit.h"
#include "train/kept_algorithms.h"
#include "train/load_state.h"
#include "train/machine.h"
#include "train/token_rows.h"

namespace xlstm {

namespace {

// All NaN are alike: their bits say nothing.
bool same(double a, double b) {
  return std::isnan(a) ? std::isnan(b) : std::bit_cast<std::uint64_t>(a) == std::bit_cast<std::uint64_t>(b);
}

bool same(const GateExtremes& a, const GateExtremes& b) {
  return same(a.input_max, b.input_max) && same(a.input_min, b.input_min) && same(a.forget_max, b.forget_max) &&
         same(a.forget_min, b.forget_min);
}

std::vector<std::string> differences(const Anomaly& a, const Anomaly& b) {
  std::vector<std::string> out;
  if (!same(a.loss, b.loss)) out.emplace_back("loss");
  if (!same(a.grad_norm, b.grad_norm)) out.emplace_back("gradient norm");
  for (std::size_t i = 0; i < b.norms.size(); ++i)
    if (i >= a.norms.size() || a.norms[i].name != b.norms[i].name || !same(a.norms[i].norm, b.norms[i].norm))
      out.push_back("gradient of " + b.norms[i].name);
  for (std::size_t l = 0; l < b.gates.size(); ++l)
    if (l >= a.gates.size() || !same(a.gates[l], b.gates[l])) out.push_back(fmt::format("gates of blocks.{}", l));
  return out;
}

TrainConfig config_of(const Anomaly& a, const fs::path& folder, i64 threads) {
  TrainConfig cfg = read_config<TrainConfig>(ConfigTree::from_text(a.config, (folder / "anomaly.json").string()));
  cfg.run.threads = threads;
  cfg.run.check = Check::none;
  cfg.run.cuda_graph = false;
  cfg.resolve();
  if (a.batch.sequences != cfg.train.batch_size || a.batch.length != cfg.train.context_length)
    throw user_error("{}: {} sequences of {} tokens are no update of its config", (folder / "anomaly.json").string(),
                     a.batch.sequences, a.batch.length);
  return cfg;
}

// The part of rank `rank`.
TokenBatch part_of(const TokenBatch& whole, Ranks ranks) {
  const i64 rows = whole.sequences / ranks.size, tokens = rows * whole.length, begin = ranks.rank * tokens;
  TokenBatch part{
      .sequences = rows, .length = whole.length, .first_sequence = whole.first_sequence + ranks.rank * rows};
  const auto cut = [&](const std::vector<std::int32_t>& from) {
    return std::vector<std::int32_t>(from.begin() + begin, from.begin() + begin + tokens);
  };
  part.ids = cut(whole.ids), part.targets = cut(whole.targets), part.starts = cut(whole.starts);
  return part;
}

// What a run has in memory, without its directory.
class Rig {
 public:
  Rig(const TrainConfig& cfg, Communicator& ranks)
      : cfg_(cfg),
        ranks_(ranks),
        machine_(open_machine(ranks, cfg_.run)),
        sizes_(plan()),
        arenas_(sizes_, machine_.gpu()),
        ctx_(machine_.context(arenas_.scratch)),
        state_(arenas_, cfg_, here()),
        device_ranks_(machine_.gpu() && ranks.size() > 1 ? ranks.on_device(*machine_.gpu()) : nullptr),
        step_(ctx_, state_, cfg_, device_ranks_ ? device_ranks_.get() : &ranks) {}

  void load(const fs::path& weights) {
    const StateMemory memory{ctx_, state_, step_, arenas_.snapshot, ranks_};
    if (!load_state(memory, weights, {.with_optimizer = false}))
      throw SharedError(fmt::format("{}: the weights are not there any more; without them nothing can be replayed",
                                    weights.string()));
  }

  void compute(const TokenBatch& part, const Anomaly& recorded, Anomaly& now) {
    ctx_.step = recorded.step;
    state_.model.reset_gate_extremes(ctx_, state_.saved);
    const StepResult result = step_.run({.batch = part,
                                         .lr = recorded.lr,
                                         .update = recorded.update,
                                         .scored = recorded.scored,
                                         .norm_limit = recorded.norm_limit});
    step_.settle();
    now.loss = result.loss;
    now.grad_norm = result.grad_norm;
    now.reason = reason_of_skip(result.applied, result.loss, result.grad_norm);
    now.norms = gradient_norms(ctx_, state_, ranks_);
    now.gates = gather_gates(state_.model.gate_extremes(ctx_, state_.saved), ranks_);
  }

  // Behind compute(): micro-batch by micro-batch, each operation waited for and looked at.
  std::string first_not_finite(const TokenBatch& part) {
    const i64 size = cfg_.train.micro_batch_size;
    std::string first;
    upload_batch(ctx_, state_.batch, part);
    ops::fill(ctx_, state_.all_gradients, 0);
    ctx_.check_ops = true;
    for (i64 at = 0; at < part.sequences && first.empty(); at += size) try {
        state_.model.forward_backward(ctx_, state_.losses, state_.batch.sequences(at, size), state_.saved,
                                      cfg_.train.recompute, state_.inverse_tokens());
      } catch (const Error& e) {
        first = fmt::format("{} (sequences {} to {})", e.what(), part.first_sequence + at,
                            part.first_sequence + at + size - 1);
      }
    ctx_.check_ops = false;
    ctx_.layer = -1;
    for (const std::string& text : ranks_.gather_texts("first not finite", first))
      if (!text.empty()) return text;
    return "";
  }

  const Machine& machine() const { return machine_; }
  Ranks here() const { return {ranks_.rank(), ranks_.size()}; }

 private:
  std::vector<ArenaSize> plan() const {
    return plan_within(cfg_, machine_.device(), AvailableMemory::of(machine_, ranks_.on_this_host()), machine_.gpu(),
                       here());
  }

  const TrainConfig& cfg_;
  Communicator& ranks_;
  Machine machine_;
  std::vector<ArenaSize> sizes_;
  TrainArenas arenas_;
  Context ctx_;
  TrainState state_;
  std::unique_ptr<Communicator> device_ranks_;
  TrainStep step_;
};

}  // namespace

Replay replay_anomaly(const fs::path& folder, i64 threads, Communicator& ranks) {
  Replay out;
  TrainConfig cfg;
  std::unique_ptr<Rig> rig;
  std::optional<KeptAlgorithms> algorithms;
  const fs::path anomalies = fs::absolute(folder / "").lexically_normal().parent_path().parent_path();
  ranks.together("evidence", [&] {
    out.recorded = read_anomaly(folder);
    cfg = config_of(out.recorded, folder, threads);
    check_ranks(cfg, ranks.size());
  });
  ranks.configure({.timeout = static_cast<double>(cfg.parallel.timeout)});
  set_threads(threads_of_rank(ranks, threads));
  ranks.together("memory", [&] {
    rig = std::make_unique<Rig>(cfg, ranks);
    // As in the run; what is chosen anew here stays here.
    if (cfg.run.gemm_algorithms == GemmAlgorithms::timed && rig->machine().gpu() && out.recorded.ranks == 1)
      algorithms.emplace(*rig->machine().gpu(), anomalies.parent_path() / "gemm_algorithms.json");
  });
  rig->load(anomalies / "weights" / out.recorded.weights);
  const TokenBatch part = part_of(out.recorded.batch, rig->here());
  out.now.computed_on = rig->machine().kind();
  out.now.ranks = ranks.size();
  rig->compute(part, out.recorded, out.now);
  out.differences = differences(out.recorded, out.now);
  if (!std::isfinite(out.now.loss) || !std::isfinite(out.now.grad_norm))
    out.first_not_finite = rig->first_not_finite(part);
  return out;
}

}  // namespace xlstm
