#pragma once
// What this machine can do, measured.
#include "core/json.h"
#include "train/machine.h"

namespace xlstm {

struct HardwareSpeed {
  double gemm_flops = 0;  // per second: products of a training shape; all threads, or a GPU's bf16
  double copy_bytes = 0;  // per second: bytes read plus written by a large copy
};

double measure_gemm_flops(const Machine& machine, double seconds);
double measure_copy_bytes(const Machine& machine, double seconds);

// Program, compiler, processor, memory, libraries: what a result was made with.
Json describe_environment(const Gpu* gpu = nullptr);

std::string program_version();  // "xlstm 0.1.0"

}  // namespace xlstm
