#include "core/cpu_isa.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include <cerrno>
#include <cstring>
#include <fstream>

namespace xlstm {

namespace {

#if defined(__x86_64__)
bool has_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

// CPUID itself: not every compiler's __builtin_cpu_supports knows AMX.
bool has_amx_bf16() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  constexpr unsigned kBf16 = 1U << 22, kTile = 1U << 24;
  return __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (d & kBf16) != 0 && (d & kTile) != 0;
}

// The registers are 8 KiB per thread, which Linux saves for processes that asked. Why it refused, or "".
std::string ask_for_tiles() {
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  if (syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0) return "";
  if (errno == ENOSPC) return "a thread's alternate stack for signals is too small for AMX's registers";
  return fmt::format("the system keeps AMX from programs (Linux from 5.16 on gives it): {}", std::strerror(errno));
}
#endif

}  // namespace

const char* name_of(CpuIsa isa) {
  switch (isa) {
    case CpuIsa::amx: return "amx";
    case CpuIsa::avx512: return "avx512";
    case CpuIsa::baseline: break;
  }
#if defined(__x86_64__)
  return "avx2";
#else
  return "portable";
#endif
}

std::string missing_for(CpuIsa isa) {
#if defined(__x86_64__)
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return "the processor has no AVX2 and FMA";
  if (isa == CpuIsa::baseline) return "";
  if (!has_avx512()) return "the processor has no AVX-512 (F, BW, DQ, VL)";
  if (isa == CpuIsa::avx512) return "";
  if (!has_amx_bf16()) return "the processor has no AMX (TILE, BF16), or a virtual machine hides it";
  static const std::string refused = ask_for_tiles();
  return refused;
#else
  return isa == CpuIsa::baseline ? "" : "this is no x86-64 processor";
#endif
}

CpuIsa best_cpu_isa() {
  if (const std::string missing = missing_for(CpuIsa::baseline); !missing.empty())
    throw user_error("{} ({}): the program needs x86-64-v3 or newer", missing, cpu_model_name());
  CpuIsa best = CpuIsa::baseline;
  for (const CpuIsa isa : kCpuIsas)
    if (missing_for(isa).empty()) best = isa;
  return best;
}

std::string cpu_model_name() {
  std::ifstream in("/proc/cpuinfo");
  for (std::string line; std::getline(in, line);)
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  return "unknown processor";
}

}  // namespace xlstm
