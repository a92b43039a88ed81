#pragma once
// Who knows of what: a vector clock per warp of a cluster. A barrier tells every warp what the others had done when
// they came to it; a warp collective orders the lanes of one warp; a single lane may know more than its warp, because
// it alone has waited. Bulk copies are done by an engine with a time of its own, as if it were one more warp: those who
// have waited at a copy's barrier know of it.
#include <cstdint>
#include <stdexcept>
#include <vector>

namespace xlstm::emulator {

struct EmulatorFault : std::runtime_error {
  using std::runtime_error::runtime_error;
};

constexpr int kWarpSize = 32;

// Warps count through all CTAs of a cluster.
struct Accessor {
  int warp, lane;
};

class Clocks {
 public:
  using Clock = std::vector<std::int32_t>;  // [warp, and last the engine]: how much of it is known

  explicit Clocks(int warps);

  std::int32_t now(int warp) const { return of_warps_[index(warp)][index(warp)]; }
  const Clock& of(Accessor who) const;
  int engine() const { return static_cast<int>(of_warps_.size()); }
  std::int32_t next_engine_time() { return ++engine_time_; }
  // What one lane hands on: all that its warp did before its last collective.
  Clock of_lane_before(Accessor who) const;

  void learn(Accessor who, const Clock& more);         // one lane has waited for what `more` knows
  void order_lanes(int warp);                          // a collective of this warp
  void order_warps(int first, int count);              // a barrier of all lanes of these warps
  static void join(Clock& clock, const Clock& other);  // into an empty clock, too

 private:
  static std::size_t index(int warp) { return static_cast<std::size_t>(warp); }
  Clock& lane_clock(Accessor who) { return of_lanes_[index(who.warp * kWarpSize + who.lane)]; }
  void gather_lanes(int warp);

  std::vector<Clock> of_warps_;
  std::vector<Clock> of_lanes_;  // of a lane that knows more than its warp; otherwise empty
  std::vector<bool> apart_;      // [warp]: has such lanes
  std::int32_t engine_time_ = 0;
};

}  // namespace xlstm::emulator
