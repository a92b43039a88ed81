#pragma once
// What this machine can do, measured.
#include "core/context.h"
#include "core/json.h"

namespace xlstm {

struct HardwareSpeed {
  double gemm_flops = 0;  // per second: f32 products of a training shape, all threads
  double copy_bytes = 0;  // per second: bytes read plus written by a large copy
};

double measure_gemm_flops(CpuIsa isa, double seconds);
double measure_copy_bytes(CpuIsa isa, double seconds);

// Program, compiler, processor, memory, libraries: what a result was made with.
Json describe_environment();

std::string program_version();  // "xlstm 0.1.0"

}  // namespace xlstm
