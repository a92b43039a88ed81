#pragma once
// The emulator as a device: open_gpu() of a test program that is linked with it. Its memory is the host's, every
// allocation a range of its own; launches run at once, each in another order of warps.
#include "core/gpu.h"
#include "kernels/cuda/emulator/block.h"

namespace xlstm::emulator {

// The order of the next launch: seed and arrival differ from call to call.
LaunchConfig next_launch();

}  // namespace xlstm::emulator
