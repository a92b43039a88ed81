#include "core/cpu_isa.h"

#include <fstream>

namespace xlstm {

const char* name_of(CpuIsa isa) {
#if defined(__x86_64__)
  return isa == CpuIsa::avx512 ? "avx512" : "avx2";
#else
  return isa == CpuIsa::avx512 ? "avx512" : "portable";
#endif
}

CpuIsa best_cpu_isa() {
#if defined(__x86_64__)
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma"))
    throw user_error("this processor ({}) has no AVX2 and FMA; the program needs x86-64-v3 or newer", cpu_model_name());
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl"))
    return CpuIsa::avx512;
#endif
  return CpuIsa::baseline;
}

std::string cpu_model_name() {
  std::ifstream in("/proc/cpuinfo");
  for (std::string line; std::getline(in, line);)
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  return "unknown processor";
}

}  // namespace xlstm
