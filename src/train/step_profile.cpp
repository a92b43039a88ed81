#include "train/step_profile.h"

#include <fmt/core.h>

namespace xlstm {

void StepProfile::add_step(double step_seconds, double waited) {
  seconds += step_seconds;
  data_wait += waited;
  ++steps;
}

StepProfile StepProfile::since(const StepProfile& before) const {
  StepProfile p = *this;
  for (std::size_t c = 0; c < p.ops.classes.size(); ++c) {
    const Profile::Entry& was = before.ops.classes[c];
    Profile::Entry& e = p.ops.classes[c];
    e = {.seconds = e.seconds - was.seconds,
         .flops = e.flops - was.flops,
         .bytes = e.bytes - was.bytes,
         .calls = e.calls - was.calls};
  }
  p.seconds -= before.seconds;
  p.data_wait -= before.data_wait;
  p.steps -= before.steps;
  return p;
}

std::vector<StepProfile::Row> StepProfile::rows() const {
  if (steps == 0) return {};
  const auto n = static_cast<double>(steps);
  std::vector<Row> rows;
  double counted = 0;
  const auto add = [&](const char* name, double of_all, double flops, double bytes) {
    rows.push_back({name, of_all / n, of_all / seconds, flops / n, bytes / n});
    counted += of_all;
  };
  for (int c = 0; c < kOpClassCount; ++c) {
    const Profile::Entry& e = ops.classes[static_cast<std::size_t>(c)];
    add(name_of(static_cast<OpClass>(c)), e.seconds, e.flops, e.bytes);
  }
  add("data", data_wait, 0, 0);
  add("idle", seconds - counted, 0, 0);
  return rows;
}

std::string StepProfile::table() const {
  std::string text = fmt::format("{:<14}{:>12}{:>9}{:>12}{:>10}{:>12}{:>10}\n", "class", "ms/step", "share", "GFLOP",
                                 "GF/s", "MB moved", "GB/s");
  double total = 0, share = 0;
  for (const Row& r : rows()) {
    const double busy = r.seconds > 0 ? r.seconds : 1;
    text += fmt::format("{:<14}{:>12.3f}{:>8.1f}%{:>12.3f}{:>10.1f}{:>12.2f}{:>10.2f}\n", r.name, 1e3 * r.seconds,
                        100 * r.share, r.flops / 1e9, r.flops / busy / 1e9, r.bytes / 1e6, r.bytes / busy / 1e9);
    total += r.seconds;
    share += r.share;
  }
  return text + fmt::format("{:<14}{:>12.3f}{:>8.1f}%   over {} steps\n", "step", 1e3 * total, 100 * share, steps);
}

Json StepProfile::to_json() const {
  Json list = Json::array();
  for (const Row& r : rows())
    list.push_back(
        {{"class", r.name}, {"seconds", r.seconds}, {"share", r.share}, {"flops", r.flops}, {"bytes", r.bytes}});
  return {
      {"steps", steps}, {"seconds_per_step", steps > 0 ? seconds / static_cast<double>(steps) : 0}, {"classes", list}};
}

}  // namespace xlstm
