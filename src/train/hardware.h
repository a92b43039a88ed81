#pragma once
// What this machine can do, measured.
#include "core/json.h"
#include "train/machine.h"

namespace xlstm {

// Per second: products of a training shape, with operands of `type` (on a GPU always bf16), and bytes read plus written
// by a large copy.
double measure_gemm_flops(const Machine& machine, DType type, double seconds);
double measure_copy_bytes(const Machine& machine, double seconds);
double measure_read_bytes(const Machine& machine, double seconds);  // read only; of a GPU, by its copy

// Program, compiler, processor, memory, libraries: what a result was made with.
Json describe_environment(const Machine& machine = {});

std::string program_version();  // "xlstm 0.1.0"

}  // namespace xlstm
