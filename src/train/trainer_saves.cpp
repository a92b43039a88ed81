// What of a run is saved, and how it comes back.
#include <algorithm>
#include <thread>

#include "core/text.h"
#include "train/trainer.h"

namespace xlstm {

namespace {

std::string steps_of(const std::string& config) {
  return ConfigTree::from_text(config, "config").values["train.steps"].text;
}

std::vector<NamedTensor> as_named(const std::vector<TensorPiece>& pieces) {
  std::vector<NamedTensor> out;
  out.reserve(pieces.size());
  for (const TensorPiece& p : pieces) out.push_back({"piece", p.values});
  return out;
}

}  // namespace

// Each rank reads what it has to have: all of it, or, where the moments are shared out, its pieces.
LoadTarget Trainer::target(const HostTwins& params, const HostTwins& moments, const HostTwins& pieces) {
  LoadTarget target{.params = params.host(), .optimizer = moments.host(), .check_state = [this](const Json& state) {
                      check_resumed(state);
                    }};
  if (!state_.sharded) return target;
  target.pieces = state_.pieces();
  for (std::size_t i = 0; i < target.pieces.size(); ++i) target.pieces[i].values = pieces.host()[i].value;
  return target;
}

// What there is to tell: "" for a run that begins.
std::string Trainer::resume() {
  Arena staging = arenas_.snapshot, nowhere = Arena::measuring("names");  // nothing is being saved yet
  const bool sharded = state_.sharded;
  const HostTwins params(state_.named_params(), sharded ? nowhere : staging),
      moments(state_.named_moments(), sharded ? nowhere : staging),
      pieces(sharded ? as_named(state_.pieces()) : std::vector<NamedTensor>{}, staging);
  const auto loaded = load_newest_checkpoint(path_ / "checkpoints", target(params, moments, pieces), &ranks_);
  if (!loaded) {
    state_.initialise(ctx_, static_cast<std::uint64_t>(cfg_.run.seed));
    return "";
  }
  for (const HostTwins* twins : {&params, &moments, &pieces})
    if (twins == &pieces || !sharded) twins->upload(ctx_);
  state_.round_parameters(ctx_);
  step_.share_weights();
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
    throw user_error("{}: cannot resume, {}; give this run a folder of its own with --run", path_.string(), conflict);
  const Json prints = state.value("fingerprints", Json::object());
  if (const std::string was = prints.value("data", ""); was != train_data_.fingerprint())
    throw user_error(
        "{}: cannot resume, it was trained on data {:.16}, {} is {:.16}; name the same data set in data.train",
        path_.string(), was, cfg_.data.train, train_data_.fingerprint());
}

CheckpointContent Trainer::content() const {
  const Json fingerprints{{"data", train_data_.fingerprint()}, {"tokenizer", train_data_.tokenizer_sha256()}};
  const Json state{{"updates", at_.updates},
                   {"skipped_in_row", at_.skipped_in_row},
                   {"next_sequence", at_.next_sequence},
                   {"tokens", at_.step * cfg_.tokens_per_step()},
                   {"config", write_config(cfg_)},
                   {"fingerprints", fingerprints}};
  return {.step = at_.step,
          .params = state_.named_params(),
          .optimizer = state_.named_moments(),
          .state = state,
          .pieces = ranks_.size() > 1 ? state_.pieces() : std::vector<TensorPiece>{}};
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
