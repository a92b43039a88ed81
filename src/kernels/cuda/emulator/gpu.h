#pragma once
// The emulator as a device: open_gpu() of a test program that is linked with it. Its memory is the host's, every
// allocation a range of its own; launches run at once, each in another order of warps.
#include <string>

#include "core/gpu.h"
#include "kernels/cuda/emulator/block.h"

namespace xlstm::emulator {

// The order of the next launch: seed and arrival differ from call to call.
LaunchConfig next_launch();

// Within Gpu::repeat(): what is launched, with which arguments, must be the same from call to call, because a GPU
// launches what it has recorded. Nothing elsewhere.
void note_launch(std::string what);

template <class T>
std::string bytes_of(T value) {
#if !defined(__clang__)  // clang-tidy's has no such thing; the emulator is built by g++
  __builtin_clear_padding(&value);
#endif
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

}  // namespace xlstm::emulator
