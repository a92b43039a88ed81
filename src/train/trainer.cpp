#include "train/trainer.h"

#include <algorithm>
#include <chrono>
#include <thread>

#include "core/parallel.h"
#include "core/text.h"
#include "model/flops.h"
#include "model/init.h"
#include "train/evaluate.h"
#include "train/fit.h"
#include "train/hardware.h"

namespace xlstm {

namespace {

bool due(i64 every, i64 step) { return every > 0 && step % every == 0; }

Dataset open_dataset(const std::string& path, const char* key, const char* part, const TrainConfig& cfg) {
  if (path.empty()) throw user_error("{}: name a folder made by 'xlstm data build'", key);
  Dataset data = [&] {
    try {
      return Dataset::open(path, part);
    } catch (const UserError& e) {
      throw user_error("{}: {}", key, e.what());
    }
  }();
  if (data.vocab_size() > cfg.model.vocab_size)
    throw user_error("{}: {} has a vocabulary of {}, model.vocab_size is {}; set it to at least {}", key, path,
                     data.vocab_size(), cfg.model.vocab_size, data.vocab_size());
  check_window_fits(data, cfg.train.context_length);
  return data;
}

std::optional<Dataset> open_validation(const TrainConfig& cfg, const Dataset& train) {
  if (cfg.data.validation.empty()) return std::nullopt;
  Dataset data = open_dataset(cfg.data.validation, "data.validation", "validation", cfg);
  if (data.tokenizer_sha256() != train.tokenizer_sha256())
    throw user_error("data.validation: {} was built with tokenizer {:.12}, data.train with {:.12}; build both with one",
                     cfg.data.validation, data.tokenizer_sha256(), train.tokenizer_sha256());
  return data;
}

std::string steps_of(const std::string& config) {
  return ConfigTree::from_text(config, "config").values["train.steps"].text;
}

std::vector<ArenaSize> plan_within_memory(const TrainConfig& cfg, const Machine& machine) {
  check_precision(cfg.run, machine.device());
  return plan_within(cfg, machine.device(), AvailableMemory::of(machine), machine.gpu());
}

}  // namespace

Trainer::Trainer(const fs::path& run_dir, const TrainConfig& cfg, const std::vector<std::string>& command_line)
    : cfg_((set_threads(static_cast<int>(cfg.run.threads)), cfg)),
      train_data_(open_dataset(cfg_.data.train, "data.train", "train", cfg_)),
      validation_data_(open_validation(cfg_, train_data_)),
      machine_(cfg_.run),
      sizes_(plan_within_memory(cfg_, machine_)),
      dir_(run_dir, cfg_),
      gemm_peak_(measure_gemm_flops(machine_, 0.15)),
      arenas_(sizes_, machine_.gpu()),
      ctx_(machine_.context(arenas_.scratch)),
      state_(arenas_, cfg_),
      step_(ctx_, state_, cfg_),
      writer_(ctx_, dir_.checkpoints(), {.keep = cfg_.checkpoint.keep, .keep_every = cfg_.checkpoint.keep_every},
              arenas_.snapshot),
      flops_per_token_(training_flops_per_token(cfg_.model, cfg_.train.context_length)) {
  const std::string resumed = resume();
  if (cfg_.run.gemm_algorithms == GemmAlgorithms::timed && machine_.gpu())
    gemm_algorithms_.emplace(*machine_.gpu(), dir_.gemm_algorithms());
  loader_ = open_train_loader();
  dir_.keep_tokenizer(train_data_.tokenizer_path(), train_data_.tokenizer_sha256());
  dir_.keep_config(cfg_);
  dir_.add_environment(command_line, machine_.gpu());
  log_info("{}: {} parameters, {} of memory, {} tokens per step, {}, GEMM peak {:.0f} GF/s", dir_.path().string(),
           human_count(static_cast<double>(state_.params.count())), human_bytes(total_bytes(sizes_)),
           cfg_.tokens_per_step(), machine_.name(), gemm_peak_ / 1e9);
  if (!resumed.empty()) log_info("{}", resumed);
  log_ = std::make_unique<RunLog>(dir_.metrics(), at_.step, std::max(cfg_.train.steps, at_.step), cfg_.log.every);
}

std::unique_ptr<Loader> Trainer::open_train_loader() const {
  return std::make_unique<Loader>(train_data_, LoaderOptions{.context_length = cfg_.train.context_length,
                                                             .batch_size = cfg_.train.batch_size,
                                                             .first_sequence = at_.next_sequence,
                                                             .seed = static_cast<std::uint64_t>(cfg_.run.seed)});
}

// What there is to tell: "" for a run that begins.
std::string Trainer::resume() {
  Arena staging = arenas_.snapshot;  // nothing is being saved yet
  const HostTwins params(state_.named_params(), staging), moments(state_.named_moments(), staging);
  const LoadTarget target{.params = params.host(),
                          .optimizer = moments.host(),
                          .check_state = [this](const Json& state) { check_resumed(state); }};
  const auto loaded = load_newest_checkpoint(dir_.checkpoints(), target);
  if (!loaded) {
    initialise(ctx_, state_.params, static_cast<std::uint64_t>(cfg_.run.seed));
    state_.round_parameters(ctx_);
    return "";
  }
  params.upload(ctx_);
  moments.upload(ctx_);
  state_.round_parameters(ctx_);
  const fs::path file = loaded->folder / "state.json";
  at_ = {.step = loaded->step,
         .updates = json_field<i64>(loaded->state, "updates", file),
         .skipped_in_row = json_field<i64>(loaded->state, "skipped_in_row", file),
         .next_sequence = json_field<i64>(loaded->state, "next_sequence", file)};
  std::string note = fmt::format("resumed from {} at step {}", loaded->folder.string(), at_.step);
  const std::string steps = steps_of(loaded->state.value("config", "")), now = steps_of(write_config(cfg_));
  if (steps != now) note += fmt::format("; train.steps was {}, is {}, and the schedule changes with it", steps, now);
  return note;
}

void Trainer::check_resumed(const Json& state) const {
  const std::string conflict = conflicting_key(state.value("config", ""), write_config(cfg_));
  if (!conflict.empty())
    throw user_error("{}: cannot resume, {}; give this run a folder of its own with --run", dir_.path().string(),
                     conflict);
  const Json prints = state.value("fingerprints", Json::object());
  if (const std::string was = prints.value("data", ""); was != train_data_.fingerprint())
    throw user_error(
        "{}: cannot resume, it was trained on data {:.16}, {} is {:.16}; name the same data set in data.train",
        dir_.path().string(), was, cfg_.data.train, train_data_.fingerprint());
}

CheckpointContent Trainer::content() const {
  const Json fingerprints{{"data", train_data_.fingerprint()}, {"tokenizer", train_data_.tokenizer_sha256()}};
  const Json state{{"updates", at_.updates},
                   {"skipped_in_row", at_.skipped_in_row},
                   {"next_sequence", at_.next_sequence},
                   {"tokens", at_.step * cfg_.tokens_per_step()},
                   {"config", write_config(cfg_)},
                   {"fingerprints", fingerprints}};
  return {.step = at_.step, .params = state_.named_params(), .optimizer = state_.named_moments(), .state = state};
}

RunOutcome Trainer::run(std::optional<i64> stop_at) {
  const bool done = at_.step >= cfg_.train.steps;
  if (stop_at && at_.step >= *stop_at && !done)
    throw user_error("--stop-at {}: the run is at step {} already; name a later step, or leave it out", *stop_at,
                     at_.step);
  if (const bool wanted = done || due(cfg_.eval.every, at_.step); wanted && at_.step > 0) make_up_for_evaluation();
  if (done) {
    log_->finish(fmt::format("already done: {} steps; checkpoint in {}", at_.step, dir_.checkpoints().string()));
    return RunOutcome::finished;
  }
  while (at_.step < cfg_.train.steps) {
    if (const char* signal = StopSignal::received()) return stop(signal);
    if (stop_at && at_.step >= *stop_at) return stop(fmt::format("--stop-at {}", *stop_at));
    const StepRecord record = train_one();
    log_->step(record);

    if (at_.skipped_in_row > cfg_.guard.max_skips) return give_up();
    if (due(cfg_.eval.every, at_.step) && at_.step < cfg_.train.steps) evaluate();
    if (due(cfg_.checkpoint.every, at_.step) && at_.step < cfg_.train.steps) writer_.save(content());
    report_save();
  }
  return finish();
}

// Data that turns out to be damaged ends the run, but not what it has learnt.
void Trainer::next_batch() {
  try {
    loader_->next(batch_);
  } catch (const UserError&) {
    save_for_good();
    log_->finish(fmt::format("saved at step {}; the data cannot be read on", at_.step));
    throw;
  }
}

StepRecord Trainer::train_one() {
  const Timer timer;
  next_batch();
  const double waited = timer.seconds();
  const double lr = learning_rate(cfg_.schedule, cfg_.optimizer.lr, at_.step + 1, cfg_.train.steps);
  ctx_.step = at_.step + 1;
  const StepResult result = step_.run(batch_, lr, at_.updates + 1);
  if (gemm_algorithms_) gemm_algorithms_->keep();

  ++at_.step;
  at_.updates += result.applied;
  at_.next_sequence += cfg_.train.batch_size;
  at_.skipped_in_row = result.applied ? 0 : at_.skipped_in_row + 1;
  if (!result.applied)
    log_warning("step {}: loss {} or gradient norm {} is not finite; the update is skipped ({} in a row, {} allowed)",
                at_.step, result.loss, result.grad_norm, at_.skipped_in_row, cfg_.guard.max_skips);

  const double seconds = timer.seconds();
  const double rate = static_cast<double>(cfg_.tokens_per_step()) / seconds;
  return {.step = at_.step,
          .tokens = at_.step * cfg_.tokens_per_step(),
          .loss = result.loss,
          .grad_norm = result.grad_norm,
          .lr = lr,
          .tokens_per_second = rate,
          .mfu = rate * flops_per_token_ / gemm_peak_,
          .seconds = seconds,
          .data_wait = waited,
          .applied = result.applied};
}

void Trainer::evaluate() {
  if (!validation_data_) return;
  const ForwardPass pass{ctx_, state_.model, state_.saved, state_.batch.sequences(0, cfg_.train.micro_batch_size),
                         state_.losses};
  try {
    const auto e = xlstm::evaluate(pass, *validation_data_,
                                   {.windows = cfg_.eval.batches * cfg_.train.micro_batch_size,
                                    .stop = [] { return StopSignal::received() != nullptr; }});
    if (gemm_algorithms_) gemm_algorithms_->keep();
    if (e) log_->evaluation(at_.step, e->loss, e->tokens);
  } catch (const UserError& e) {
    log_error("step {}: no validation loss: {}; training goes on", at_.step, e.what());
  }
}

// A signal may have ended the one of this step.
void Trainer::make_up_for_evaluation() {
  if (!log_->has_evaluation(at_.step)) evaluate();
}

// The last save of a process. A full disk gets ten minutes to be emptied; a second signal ends the wait.
void Trainer::save_for_good() {
  constexpr double kPatience = 600, kLongestPause = 60;
  const Timer waited;
  for (double pause = 1;; pause = std::min(2 * pause, kLongestPause)) {
    try {
      writer_.save_now(content());
      return;
    } catch (const UserError& e) {
      if (waited.seconds() > kPatience) throw;
      log_error("checkpoint of step {} was NOT saved: {}; trying again in {:.0f} s", at_.step, e.what(), pause);
      std::this_thread::sleep_for(std::chrono::duration<double>(pause));
    }
  }
}

void Trainer::report_save() {
  const auto report = writer_.poll();
  if (report && report->error.empty())
    log_info("step {:>6}  saved {} in {:.2f} s; training waited {:.3f} s", report->step, human_bytes(report->bytes),
             report->seconds_writing, report->seconds_blocked);
}

RunOutcome Trainer::stop(const std::string& why) {
  save_for_good();
  log_->finish(fmt::format("{}: saved at step {}; run the same command again to go on", why, at_.step));
  return RunOutcome::stopped;
}

// Nothing is saved: the newest checkpoint is from before, or from within, the bad stretch.
RunOutcome Trainer::give_up() {
  writer_.wait();
  log_->finish(
      fmt::format("stopped at step {}: {} updates in a row had no finite loss and gradient; lower optimizer.lr, or "
                  "look at the data",
                  at_.step, at_.skipped_in_row));
  return RunOutcome::diverged;
}

RunOutcome Trainer::finish() {
  save_for_good();
  evaluate();
  if (const char* signal = StopSignal::received(); signal && validation_data_ && !log_->has_evaluation(at_.step)) {
    log_->finish(fmt::format("{}: saved at step {}; the last evaluation is missing, run the same command again", signal,
                             at_.step));
    return RunOutcome::stopped;
  }
  log_->finish(fmt::format("done: {} steps; checkpoint in {}", at_.step, dir_.checkpoints().string()));
  return RunOutcome::finished;
}

}  // namespace xlstm
