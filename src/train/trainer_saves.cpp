// What of a run is saved, and how it comes back.
#include <algorithm>
#include <thread>

#include "core/text.h"
#include "train/load_state.h"
#include "train/trainer.h"

namespace xlstm {

namespace {

std::string steps_of(const std::string& config) {
  return ConfigTree::from_text(config, "config").values["train.steps"].text;
}

}  // namespace

// The newest checkpoint up to that step; none when there is none.
std::optional<LoadedCheckpoint> Trainer::load(i64 up_to_step) {
  const StateMemory memory{ctx_, state_, step_, arenas_.snapshot, ranks_};  // nothing is being saved meanwhile
  auto loaded =
      load_state(memory, path_ / "checkpoints",
                 {.up_to_step = up_to_step, .check_state = [this](const Json& state) { check_resumed(state); }});
  if (!loaded) return loaded;
  const fs::path file = loaded->folder / "state.json";
  at_ = {.step = loaded->step,
         .updates = json_field<i64>(loaded->state, "updates", file),
         .next_sequence = json_field<i64>(loaded->state, "next_sequence", file),
         .guard = GuardState::read(loaded->state, file, loaded->step)};
  return loaded;
}

// What there is to tell: "" for a run that begins.
std::string Trainer::resume() {
  const auto loaded = load(std::numeric_limits<i64>::max());
  if (!loaded) {
    state_.initialise(ctx_, static_cast<std::uint64_t>(cfg_.run.seed));
    return "";
  }
  std::string note = fmt::format("resumed from {} at step {}", loaded->folder.string(), at_.step);
  const std::string steps = steps_of(loaded->state.value("config", "")), now = steps_of(write_config(cfg_));
  if (steps != now) note += fmt::format("; train.steps was {}, is {}, and the schedule changes with it", steps, now);
  return note;
}

void Trainer::check_resumed(const Json& state) const {
  const std::string conflict = conflicting_key(state.value("config", ""), write_config(cfg_));
  if (!conflict.empty())
    throw user_error("{}: cannot resume, {}; give this run a folder of its own with --run", path_.string(), conflict);
  const Json prints = state.value("fingerprints", Json::object());
  if (const std::string was = prints.value("data", ""); was != train_data_.fingerprint())
    throw user_error("{}: cannot resume, it was trained on data {:.16}, {} is {:.16}; name the same data there",
                     path_.string(), was, cfg_.data.mixture.empty() ? "data.train=" + cfg_.data.train : "data.mixture",
                     train_data_.fingerprint());
}

CheckpointContent Trainer::content() const {
  const Json fingerprints{{"data", train_data_.fingerprint()}, {"tokenizer", train_data_.tokenizer_sha256()}};
  Json state{{"updates", at_.updates},
             {"next_sequence", at_.next_sequence},
             {"tokens", at_.step * cfg_.tokens_per_step()},
             {"config", write_config(cfg_)},
             {"fingerprints", fingerprints}};
  at_.guard.write(state);
  return {.step = at_.step,
          .params = state_.named_params(),
          .optimizer = state_.named_moments(),
          .state = state,
          .pieces = ranks_.size() > 1 ? state_.pieces() : std::vector<TensorPiece>{},
          .best = best_checkpoint(),
          .pinned = pinned()};
}

// What a roll-back would go to, and what BEST names.
std::vector<i64> Trainer::pinned() const {
  std::vector<i64> steps;
  if (cfg_.guard.action == GuardAction::rollback) steps.push_back(at_.guard.good_step);
  if (const auto best = best_checkpoint()) steps.push_back(*best);
  return steps;
}

// The last save of a process. A full disk gets ten minutes to be emptied; a second signal ends the wait.
void Trainer::save_for_good() {
  constexpr double kPatience = 600, kLongestPause = 60;
  step_.settle();
  for (double pause = 1, waited = 0;; waited += pause, pause = std::min(2 * pause, kLongestPause)) {
    try {
      writer_.save_now(content());
      return;
    } catch (const UserError& e) {
      if (waited > kPatience) throw;
      if (ranks_.first())
        log_error("checkpoint of step {} was NOT saved: {}; trying again in {:.0f} s", at_.step, e.what(), pause);
      std::this_thread::sleep_for(std::chrono::duration<double>(pause));
    }
  }
}

void Trainer::report_save() {
  const auto report = writer_.poll();
  if (report && report->error.empty() && ranks_.first())
    log_info("step {:>6}  saved {} in {:.2f} s; training waited {:.3f} s", report->step, human_bytes(report->bytes),
             report->seconds_writing, report->seconds_blocked);
}

}  // namespace xlstm
