#include "train/trainer.h"

#include <algorithm>
#include <cstring>

#include "core/parallel.h"
#include "core/text.h"
#include "dist/rank_log.h"
#include "model/flops.h"
#include "train/agreement.h"
#include "train/fit.h"
#include "train/hardware.h"

namespace xlstm {

namespace {

bool due(i64 every, i64 step) { return every > 0 && step % every == 0; }

// What one rank cannot make, none can.
template <class Make>
auto jointly(Communicator& ranks, const char* what, Make&& make) {
  std::optional<decltype(make())> made;
  ranks.together(what, [&] { made.emplace(make()); });
  return std::move(*made);
}

TrainConfig agreed_config(Communicator& ranks, const TrainConfig& cfg) {
  ranks.configure({.timeout = static_cast<double>(cfg.parallel.timeout),
                   .told_to_stop = [] { return StopSignal::received() != nullptr; }});
  if (ranks.size() > 1) {
    agree(ranks, facts_of_program());
    agree(ranks, facts_of(cfg));
  }
  set_threads(threads_of_rank(ranks, cfg.run.threads));
  return cfg;
}

void agree_on_data(Communicator& ranks, const Mixture& train, const std::vector<NamedSet>& sets) {
  if (ranks.size() > 1) agree(ranks, facts_of(train, sets));
}

std::optional<RunDirectory> open_run_directory(Communicator& ranks, const fs::path& path, const TrainConfig& cfg) {
  std::optional<RunDirectory> dir;
  ranks.together("run directory", [&] {
    if (ranks.first()) dir.emplace(path, cfg);
  });
  ranks.together("run directory", [&] {
    std::error_code none;
    if (!fs::is_directory(path / "checkpoints", none))
      throw user_error("{}: is not there; all hosts of a run need its folder, on a file system that they share",
                       path.string());
  });
  return dir;
}

double sum_over_ranks(Communicator& ranks, double mine) {
  std::vector<double> all(static_cast<std::size_t>(ranks.size()));
  ranks.gather_bytes("sum", &mine, all.data(), sizeof mine);
  double sum = 0;
  for (const double x : all) sum += x;
  return sum;
}

// They may change between two starts; what was measured with them does not.
void tell_other_sets(const DataIdentity& before, const DataIdentity& now) {
  for (const auto& [name, tokens] : now.evaluation)
    if (const auto it = before.evaluation.find(name); it != before.evaluation.end() && it->second != tokens)
      log_warning("{}: another set than at the last start; its losses before and from here on do not compare",
                  key_of_evaluation_set(name));
}

}  // namespace

Trainer::Trainer(const fs::path& run_dir, const TrainConfig& cfg, const std::vector<std::string>& command_line,
                 Communicator* ranks)
    : alone_(ranks ? nullptr : make_single_process_communicator()),
      ranks_(ranks ? *ranks : *alone_),
      cfg_(agreed_config(ranks_, cfg)),
      train_data_(jointly(ranks_, "training data", [&] { return open_training_data(cfg_); })),
      evaluation_sets_(jointly(ranks_, "validation data", [&] { return open_evaluation_sets(cfg_, train_data_); })),
      machine_(open_machine(ranks_, cfg_.run)),
      sizes_(jointly(ranks_, "plan",
                     [&] {
                       return plan_within(cfg_, machine_.device(), AvailableMemory::of(machine_, ranks_.on_this_host()),
                                          machine_.gpu(), ranks_here());
                     })),
      path_(run_dir),
      dir_((agree_on_data(ranks_, train_data_, evaluation_sets_), open_run_directory(ranks_, path_, cfg_))),
      gemm_peak_(sum_over_ranks(ranks_, measure_gemm_flops(machine_, activation_type(cfg_.run), 0.15))),
      arenas_(jointly(ranks_, "memory", [&] { return TrainArenas(sizes_, machine_.gpu()); })),
      ctx_(machine_.context(arenas_.scratch)),
      state_(arenas_, cfg_, ranks_here()),
      device_ranks_(machine_.gpu() && ranks_.size() > 1 ? ranks_.on_device(*machine_.gpu()) : nullptr),
      step_(ctx_, state_, cfg_, device_ranks_ ? device_ranks_.get() : &ranks_),
      writer_(ctx_, path_ / "checkpoints", {.keep = cfg_.checkpoint.keep, .keep_every = cfg_.checkpoint.keep_every},
              arenas_.snapshot, &ranks_),
      flops_per_token_(training_flops_per_token(cfg_.model, cfg_.train.context_length)) {
  const std::string resumed = resume();
  if (ranks_.size() > 1 && cfg_.parallel.check_interval > 0) replica_check_.emplace(ctx_, state_, ranks_);
  remember_weights();
  // Ranks that timed for themselves would choose differently: several take the library's first proposals.
  if (cfg_.run.gemm_algorithms == GemmAlgorithms::timed && machine_.gpu() && ranks_.size() == 1)
    gemm_algorithms_.emplace(*machine_.gpu(), dir_->gemm_algorithms());
  loader_ = open_train_loader();
  ranks_.together("run directory", [&] {
    if (!dir_) return;
    const DataIdentity data = identity_of(train_data_, evaluation_sets_);
    if (resumed.empty()) dir_->check_data(data);
    tell_other_sets(recorded_data(path_), data);
    dir_->keep_tokenizer(train_data_.tokenizer_path(), train_data_.tokenizer_sha256());
    dir_->add_environment(command_line, machine_, ranks_, data);
    dir_->keep_config(cfg_);  // last: a config is never there without the data that it was kept for
    tell_start(resumed);
    open_log();
    if (cfg_.eval.prompts.empty()) return;
    const ModelInUse model{state_.model, activation_type(cfg_.run), machine_, &state_.packed};
    sampling_.emplace(cfg_, model, train_data_.tokenizer_path());
  });
}

void Trainer::tell_start(const std::string& resumed) {
  const std::string ranks = ranks_.size() == 1 ? "" : fmt::format("{} ranks of ", ranks_.size());
  log_info("{}: {} parameters, {}{} of memory, {} tokens per step, {}, GEMM peak {:.0f} GF/s", path_.string(),
           human_count(static_cast<double>(state_.params.count())), ranks, human_bytes(total_bytes(sizes_)),
           cfg_.tokens_per_step(), machine_.name(), gemm_peak_ / 1e9);
  if (cfg_.parallel.reduction == Reduction::fast)
    log_info("parallel.reduction is fast: the bits of this run depend on the number of ranks and on the library");
  if (!resumed.empty()) log_info("{}", resumed);
}

// Of each batch, the part of this rank's slots.
std::unique_ptr<Loader> Trainer::open_train_loader() const {
  const i64 part = cfg_.train.batch_size / ranks_.size();
  return std::make_unique<Loader>(train_data_.sequences(cfg_.train.context_length, cfg_.data.packing),
                                  LoaderOptions{.batch_size = cfg_.train.batch_size,
                                                .begin = ranks_.rank() * part,
                                                .end = (ranks_.rank() + 1) * part,
                                                .first_sequence = at_.next_sequence,
                                                .seed = static_cast<std::uint64_t>(cfg_.run.seed)});
}

// Seen so far: of all sequences up to here but those that roll-backs have left out.
std::vector<SetTokens> Trainer::tokens_by_set() const {
  std::vector<SetTokens> seen;
  if (train_data_.sets().size() == 1) return seen;
  std::vector<i64> sequences = train_data_.counts(at_.next_sequence);
  for (const SequenceRange& range : at_.guard.left_out) {
    const std::vector<i64> before = train_data_.counts(range.begin), to = train_data_.counts(range.end);
    for (std::size_t i = 0; i < sequences.size(); ++i) sequences[i] -= to[i] - before[i];
  }
  for (std::size_t i = 0; i < sequences.size(); ++i)
    seen.push_back({train_data_.sets()[i].name, sequences[i] * cfg_.train.context_length});
  return seen;
}

RunOutcome Trainer::run(std::optional<i64> stop_at) {
  const bool done = at_.step >= cfg_.train.steps;
  if (stop_at && at_.step >= *stop_at && !done)
    throw SharedError(fmt::format("--stop-at {}: the run is at step {} already; name a later step, or leave it out",
                                  *stop_at, at_.step));
  if (const bool wanted = done || due(cfg_.eval.every, at_.step); wanted && at_.step > 0) make_up_for_evaluation();
  if (done) {
    end_log(fmt::format("already done: {} steps; checkpoint in {}", at_.step, (path_ / "checkpoints").string()));
    return RunOutcome::finished;
  }
  while (at_.step < cfg_.train.steps) {
    if (stop_at && at_.step >= *stop_at) return stop(fmt::format("--stop-at {}", *stop_at));
    const Timer timer;
    const StepProfile before = profile_;
    const std::string damage = next_batch();
    const double waited = timer.seconds();
    const Meeting now = meet(damage);
    if (!now.signal.empty()) return trained_ ? stop(now.signal) : stop_at_once(now.signal);
    if (now.damaged) data_ends(damage);
    StepRecord record = train_one(timer, waited, now);
    if (cfg_.log.profile) record.classes = profile_.since(before).rows();
    if (log_) log_->step(record);

    if (record.skipped != SkipReason::none) {
      if (const auto end = after_skip(record, now.scored)) return *end;
      if (at_.step < record.step) continue;  // it has gone back
    }
    if (due(cfg_.checkpoint.every, at_.step)) count_checkpoint(at_.guard, at_.step);
    if (due(cfg_.eval.every, at_.step) && at_.step < cfg_.train.steps) evaluate();
    if (due(cfg_.checkpoint.every, at_.step) && at_.step < cfg_.train.steps) writer_.save(content());
    report_save();
  }
  return finish();
}

// Returns why there is none.
std::string Trainer::next_batch() {
  try {
    loader_->next(batch_);
    return "";
  } catch (const UserError& e) {
    return e.what();
  }
}

// Once per step, before it, all ranks tell each other what one alone would act upon.
Trainer::Meeting Trainer::meet(const std::string& damage) {
  struct Word {
    i64 scored, damaged, warnings;
    double norm_limit, lr;
    char signal[16];
  };
  Word mine{damage.empty() ? scored_tokens(batch_) : 0,
            !damage.empty(),
            RankLog::waiting(),
            norm_limit(cfg_.guard, at_.guard.norms),
            learning_rate(cfg_.schedule, cfg_.optimizer.lr, at_.step + 1, cfg_.train.steps),
            {}};
  if (const char* signal = StopSignal::received()) std::strncpy(mine.signal, signal, sizeof mine.signal - 1);
  ranks_.at_step(at_.step + 1);
  std::vector<Word> all(static_cast<std::size_t>(ranks_.size()));
  const Timer timer;
  ranks_.gather_bytes("beginning of the step", &mine, all.data(), sizeof mine);
  if (ranks_.size() > 1) profile_.ops.add_call(OpClass::exchange, timer.seconds());
  Meeting meeting{.norm_limit = all[0].norm_limit, .lr = all[0].lr};  // hosts may have other mathematical libraries
  bool warnings = false;
  for (const Word& word : all) {
    meeting.scored += word.scored;
    meeting.damaged = meeting.damaged || word.damaged != 0;
    warnings = warnings || word.warnings != 0;
    if (meeting.signal.empty()) meeting.signal = word.signal;
  }
  if (warnings) RankLog::pass_on(ranks_);
  return meeting;
}

// Data that turns out to be damaged ends the run, but not what it has learnt.
void Trainer::data_ends(const std::string& damage) {
  save_for_good();
  end_log(fmt::format("saved at step {}; the data cannot be read on", at_.step));
  ranks_.together("training data", [&] {
    if (!damage.empty()) throw user_error("{}", damage);
  });
}

StepRecord Trainer::train_one(const Timer& timer, double waited, const Meeting& now) {
  ctx_.step = at_.step + 1;
  StepInput in{
      .batch = batch_, .lr = now.lr, .update = at_.updates + 1, .scored = now.scored, .norm_limit = now.norm_limit};
  if (replica_check_ && due(cfg_.parallel.check_interval, ctx_.step))
    in.before_update = [this] { replica_check_->compare(ctx_.step); };
  state_.model.reset_gate_extremes(ctx_, state_.saved);
  ctx_.profile = cfg_.log.profile ? &profile_.ops : nullptr;
  const StepResult result = step_.run(in);
  ctx_.profile = nullptr;
  if (gemm_algorithms_) gemm_algorithms_->keep();

  trained_ = true;
  ++at_.step;
  at_.updates += result.applied;
  at_.next_sequence += cfg_.train.batch_size;
  count_update(at_.guard, cfg_.guard, result.applied, result.grad_norm);
  remember_weights();

  GateExtremes gates = GateExtremes::none();
  const Timer gathering;
  for (const GateExtremes& block : block_gates()) gates.include(block);
  if (ranks_.size() > 1) profile_.ops.add_call(OpClass::exchange, gathering.seconds());
  const double seconds = timer.seconds();
  profile_.add_step(seconds, waited);
  const double rate = static_cast<double>(cfg_.tokens_per_step()) / seconds;
  return {.step = at_.step,
          .tokens = at_.step * cfg_.tokens_per_step(),
          .tokens_by_set = tokens_by_set(),
          .loss = result.loss,
          .grad_norm = result.grad_norm,
          .lr = now.lr,
          .tokens_per_second = rate,
          .mfu = rate * flops_per_token_ / gemm_peak_,
          .seconds = seconds,
          .data_wait = waited,
          .skipped = reason_of_skip(result.applied, result.loss, result.grad_norm),
          .norm_limit = now.norm_limit,
          .gates = gates};
}

// Where the next step compares them. For that one, what the others send does not come beside the next forward pass.
void Trainer::remember_weights() {
  if (!replica_check_ || !due(cfg_.parallel.check_interval, at_.step + 1)) return;
  step_.settle();
  replica_check_->remember();
}

void Trainer::end_log(const std::string& note) {
  if (log_) log_->finish(note);
}

RunOutcome Trainer::stop(const std::string& why) {
  save_for_good();
  end_log(fmt::format("{}: saved at step {}; run the same command again to go on", why, at_.step));
  return RunOutcome::stopped;
}

// Before the first step: what there is to keep is on the disk already.
RunOutcome Trainer::stop_at_once(const std::string& why) {
  end_log(fmt::format("{}: stopped at step {}, before a step was made; run the same command again to go on", why,
                      at_.step));
  return RunOutcome::stopped;
}

RunOutcome Trainer::finish() {
  save_for_good();
  if (!evaluate()) {
    const char* signal = StopSignal::received();  // or another rank's
    end_log(fmt::format("{}: saved at step {}; the last evaluation is missing, run the same command again",
                        signal ? signal : "a signal", at_.step));
    return RunOutcome::stopped;
  }
  if (const auto best = best_checkpoint()) mark_best(path_ / "checkpoints", *best);
  end_log(fmt::format("done: {} steps; checkpoint in {}", at_.step, (path_ / "checkpoints").string()));
  return RunOutcome::finished;
}

}  // namespace xlstm
