#pragma once
// Barriers that lie in shared memory, and the numbered ones of a CTA.
#include <cstdint>

#include "kernels/cuda/emulator/clocks.h"

namespace xlstm::emulator {

// mbarrier: a phase is over when all arrivals and all bytes that were announced are there.
class Mbarrier {
 public:
  explicit Mbarrier(int arrivals) : arrivals_(arrivals), missing_(arrivals) {}

  void arrive(const Clocks::Clock& clock);  // throws EmulatorFault: one too many
  void expect(std::int64_t bytes) { bytes_ += bytes; }
  void land(std::int64_t bytes, const Clocks::Clock& clock);
  bool over(int parity) const { return static_cast<int>(phase_ & 1) != parity; }  // the phase of that parity
  const Clocks::Clock& known() const { return known_; }                           // what those who waited know

 private:
  void end_phase_if_complete();

  int arrivals_, missing_;
  std::int64_t bytes_ = 0;  // announced and not there; less than 0: there and not yet announced
  long phase_ = 0;
  Clocks::Clock gathered_, known_;
};

// bar.sync and bar.arrive: whole warps.
struct NamedBarrier {
  int threads = 0, arrived = 0;
  long generation = 0;
  Clocks::Clock gathered, known;
};

}  // namespace xlstm::emulator
