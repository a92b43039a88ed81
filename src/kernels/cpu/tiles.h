#pragma once
// The words of AMX. Eight registers ("tiles") of 16 rows of 64 bytes: 16 x 16 f32, or 16 x 32 bf16. The words need an
// object of this class: it sets the registers up for the calling thread, and gives them back.
// tests/support/emulated_tiles.h has the same words for processors without AMX. (Inline assembly, because the
// compiler's own words want the register as a literal, and the whole file compiled for AMX.)
#include <cstdint>

#include "core/tensor.h"

namespace xlstm {

class HardwareTiles {
 public:
  HardwareTiles() { set_up(); }
  ~HardwareTiles() { give_back(); }
  HardwareTiles(const HardwareTiles&) = delete;
  HardwareTiles& operator=(const HardwareTiles&) = delete;

  static void set_up() {
    struct alignas(64) Config {
      std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
      std::uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
      std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    };
    static constexpr Config kConfig;
    asm volatile("ldtilecfg %0" ::"m"(kConfig));
  }
  static void give_back() { asm volatile("tilerelease"); }

  template <int t>
  static void zero() {
    asm volatile("tilezero %%tmm%c0" ::"i"(t));
  }
  // 16 rows, `stride` bytes apart
  template <int t>
  static void load(const void* from, i64 stride) {
    asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(from), "r"(stride), "i"(t) : "memory");
  }
  template <int t>
  static void store(float* to, i64 stride) {
    asm volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(to), "r"(stride), "i"(t) : "memory");
  }
  // c_mn += sum over p of a_m,2p b_p,2n + a_m,2p+1 b_p,2n+1: f32 += bf16 bf16, denormals are zero
  template <int c, int a, int b>
  static void multiply() {
    asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(c), "i"(a), "i"(b));
  }
};

}  // namespace xlstm
