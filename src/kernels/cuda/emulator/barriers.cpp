#include "kernels/cuda/emulator/barriers.h"

namespace xlstm::emulator {

void Mbarrier::arrive(const Clocks::Clock& clock) {
  if (missing_ == 0) throw EmulatorFault("barrier: more arrivals than it was made for");
  Clocks::join(gathered_, clock);
  --missing_;
  end_phase_if_complete();
}

void Mbarrier::land(std::int64_t bytes, const Clocks::Clock& clock) {
  Clocks::join(gathered_, clock);
  bytes_ -= bytes;
  end_phase_if_complete();
}

void Mbarrier::end_phase_if_complete() {
  if (missing_ > 0 || bytes_ != 0) return;
  ++phase_;
  missing_ = arrivals_;
  known_ = gathered_;
}

}  // namespace xlstm::emulator
