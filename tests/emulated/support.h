#pragma once
// Small kernels under several schedules.
#include <gmock/gmock.h>

#include "kernels/cuda/dialect.h"

namespace xlstm {

constexpr int kEmulatedThreads = 128;

struct Emulated {
  emulator::Arrival arrival = emulator::Arrival::late;
  std::size_t shared_bytes = 4096;
  int cluster = 1;
};

// The fault that some of sixteen schedules run into; "" when none does.
template <class F>
std::string fault_of(F&& kernel, Emulated how = {}) {
  for (std::uint64_t seed = 1; seed <= 16; ++seed) try {
      emulator::launch({.grid = {static_cast<unsigned>(how.cluster), 1, 1},
                        .cluster = how.cluster,
                        .threads = kEmulatedThreads,
                        .shared_bytes = how.shared_bytes,
                        .seed = seed,
                        .arrival = how.arrival},
                       kernel);
    } catch (const emulator::EmulatorFault& fault) {
      return fault.what();
    }
  return "";
}

}  // namespace xlstm
