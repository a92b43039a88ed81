#include "dist/watchdog.h"

#include <fmt/format.h>

#include <algorithm>
#include <tuple>

namespace xlstm {

namespace {

auto place_of(const Beat& b) { return std::tuple(b.begun, b.saving, b.step, b.progress); }

}  // namespace

std::string collective_name(const char* what, i64 part) {
  return part > 0 ? fmt::format("{} {}", what, part) : std::string(what);
}

void Beat::name(const char* collective, i64 part) {
  what = {};
  const std::string text = collective_name(collective, part);
  std::copy_n(text.begin(), std::min(text.size(), what.size() - 1), what.begin());
}

Watchdog::Watchdog(int rank, std::vector<std::string> hosts, double now)
    : rank_(rank),
      hosts_(std::move(hosts)),
      heard_(hosts_.size(), Heard{.beat = {}, .at = now, .moved = now}),
      told_at_(now) {}

void Watchdog::waits(std::size_t channel, const char* what, i64 part, i64 number, double now) {
  waiting_[channel] = {.now = true, .what = collective_name(what, part), .since = now, .number = number};
}

void Watchdog::stops_waiting(std::size_t channel) { waiting_[channel].now = false; }

void Watchdog::progressed(std::size_t channel, double now) {
  waiting_[channel].since = std::max(waiting_[channel].since, now);
}

void Watchdog::heard(int rank, const Beat& beat, double now) {
  Heard& h = heard_[static_cast<std::size_t>(rank)];
  if (place_of(beat) != place_of(h.beat)) h.moved = now;
  h.beat = beat;
  h.at = now;
  h.ever = true;
}

// The lowest number of collectives begun; among those, who has been silent for longest.
Watchdog::Behind Watchdog::furthest_behind(double now) const {
  Behind found;
  for (std::size_t r = 0; r < heard_.size(); ++r) {
    const bool me = static_cast<int>(r) == rank_;
    const Heard& h = heard_[r];
    const Behind b{.rank = static_cast<int>(r),
                   .heard = me || h.ever,
                   .silent = me ? 0 : now - h.at,
                   .unmoved = me ? 0 : now - h.moved,
                   .beat = me ? mine : h.beat};
    const auto order = [this](const Behind& x) {
      return std::tuple(x.silent > silence() ? 0 : 1, x.beat.begun + x.beat.saving, -x.silent);
    };
    if (found.rank < 0 || order(b) < order(found)) found = b;
  }
  return found;
}

// Rank 0 knows; the others ask what it said last, unless it is silent itself.
Watchdog::Behind Watchdog::suspect(double now) const {
  if (rank_ == 0) return furthest_behind(now);
  if (now - told_at_ > silence())
    return {.rank = 0,
            .heard = heard_[0].ever,
            .silent = now - told_at_,
            .unmoved = now - told_at_,
            .beat = heard_[0].beat};
  return told_;
}

std::string Watchdog::blame(const Waiting& w, const Behind& b, double now) const {
  const auto who = [&](int rank) { return fmt::format("rank {} ({})", rank, hosts_[static_cast<std::size_t>(rank)]); };
  std::string text =
      fmt::format("step {}: {} has waited {:.0f} s in '{}'", mine.step, who(rank_), now - w.since, w.what);
  if (b.rank == rank_) return text + ", and no rank is behind the others: nothing moves between them; the job ends";
  const char* how = b.silent > silence() ? "is dead, stopped or cut off" : "hangs";
  text += fmt::format(" for {}, which {}: ", who(b.rank), how);
  text += b.heard ? fmt::format("it was last heard of {:.0f} s ago, at step {}", b.silent, b.beat.step)
                  : "nothing has been heard of it since the start";
  if (b.beat.what[0] != 0) text += fmt::format(", having begun '{}'", b.beat.what.data());
  return text + "; the job ends, and goes on from the last checkpoint when it is started again";
}

std::optional<std::string> Watchdog::verdict(double now, bool hurry) const {
  const Behind b = suspect(now);
  for (const Waiting& w : waiting_) {
    if (!w.now) continue;
    const double waited = now - w.since;
    // Somebody who is at work (writing a checkpoint, say) is waited for.
    const bool at_work = b.rank != rank_ && b.silent < silence() && b.unmoved < limit();
    if (waited > limit() && !at_work) return blame(w, b, now);
    if (hurry && waited > silence() && b.silent > silence()) return blame(w, b, now);
  }
  return std::nullopt;
}

}  // namespace xlstm
