#pragma once
// What of the CPU kernels this processor runs. Every kernel source is compiled once per kind of register
// (src/kernels/cpu, CMakeLists.txt); which one computes is chosen once, at start-up.
#include <array>
#include <string>

#include "core/tensor.h"

namespace xlstm {

enum class CpuIsa : std::uint8_t {
  baseline,  // x86-64-v3 (AVX2, FMA); on other processors, plain C++
  avx512,
  amx  // AVX-512, and matrix products on AMX's tiles
};
constexpr int kCpuIsaCount = 3;
inline constexpr std::array kCpuIsas{CpuIsa::baseline, CpuIsa::avx512,
                                     CpuIsa::amx};  // ascending: each one may all before it

const char* name_of(CpuIsa isa);
// Why `isa` cannot be had here; "" if it can. Of AMX: asks the system for it, once per process.
std::string missing_for(CpuIsa isa);
CpuIsa best_cpu_isa();  // throws UserError on an x86 processor older than x86-64-v3
std::string cpu_model_name();

}  // namespace xlstm
