#pragma once
// bfloat16: the upper half of an f32. Rounded to nearest, ties to even; NaN stays NaN.
#include <cstdint>
#include <cstring>

#if defined(__CUDACC__)
#define XL_HOST_DEVICE __host__ __device__
#else
#define XL_HOST_DEVICE
#endif

namespace xlstm {

struct bf16 {
  std::uint16_t bits;
};

XL_HOST_DEVICE inline float to_float(bf16 x) {
  const std::uint32_t bits = static_cast<std::uint32_t>(x.bits) << 16;
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

XL_HOST_DEVICE inline bf16 to_bf16(float x) {
  std::uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return {static_cast<std::uint16_t>((bits >> 16) | 0x40u)};
  return {static_cast<std::uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
}

}  // namespace xlstm
