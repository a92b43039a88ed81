#pragma once
// Which build of the CPU kernels this processor runs. Every kernel source is compiled once per level (src/kernels/cpu,
// CMakeLists.txt); the level is chosen once, at start-up.
#include <string>

#include "core/tensor.h"

namespace xlstm {

enum class CpuIsa : std::uint8_t {
  baseline,
  avx512
};  // baseline: x86-64-v3 (AVX2, FMA); on other processors, plain C++
constexpr int kCpuIsaCount = 2;

const char* name_of(CpuIsa isa);
CpuIsa best_cpu_isa();  // throws UserError on an x86 processor older than x86-64-v3
std::string cpu_model_name();

}  // namespace xlstm
