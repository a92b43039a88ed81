#include "kernels/cuda/emulator/clocks.h"

#include <algorithm>

namespace xlstm::emulator {

Clocks::Clocks(int warps)
    : of_warps_(index(warps), Clock(index(warps) + 1, 0)),
      of_lanes_(index(warps) * kWarpSize),
      apart_(index(warps), false) {
  for (std::size_t w = 0; w < of_warps_.size(); ++w) of_warps_[w][w] = 1;
}

void Clocks::join(Clock& clock, const Clock& other) {
  if (clock.size() < other.size()) clock.resize(other.size(), 0);
  for (std::size_t w = 0; w < other.size(); ++w) clock[w] = std::max(clock[w], other[w]);
}

const Clocks::Clock& Clocks::of(Accessor who) const {
  const Clock& own = of_lanes_[index(who.warp * kWarpSize + who.lane)];
  return own.empty() ? of_warps_[index(who.warp)] : own;
}

Clocks::Clock Clocks::of_lane_before(Accessor who) const {
  Clock clock = of(who);
  --clock[index(who.warp)];
  return clock;
}

void Clocks::learn(Accessor who, const Clock& more) {
  const Clock& known = of(who);
  bool news = false;
  for (std::size_t w = 0; w < more.size() && !news; ++w) news = more[w] > known[w];
  if (!news) return;
  Clock& own = lane_clock(who);
  if (own.empty()) own = of_warps_[index(who.warp)];
  join(own, more);
  apart_[index(who.warp)] = true;
}

void Clocks::gather_lanes(int warp) {
  if (!apart_[index(warp)]) return;
  for (int lane = 0; lane < kWarpSize; ++lane) {
    Clock& own = lane_clock({warp, lane});
    if (own.empty()) continue;
    join(of_warps_[index(warp)], own);
    own.clear();
  }
  apart_[index(warp)] = false;
}

void Clocks::order_lanes(int warp) {
  gather_lanes(warp);
  ++of_warps_[index(warp)][index(warp)];
}

void Clocks::order_warps(int first, int count) {
  Clock all;
  for (int w = first; w < first + count; ++w) {
    gather_lanes(w);
    join(all, of_warps_[index(w)]);
  }
  for (int w = first; w < first + count; ++w) {
    of_warps_[index(w)] = all;
    ++of_warps_[index(w)][index(w)];
  }
}

}  // namespace xlstm::emulator
