#pragma once
// The words of src/kernels/cpu/tiles.h in plain C++, after the instructions' definition (Intel's manual, volume 2):
// products in f32, rounded to nearest, denormals taken and given as zero, even and odd terms summed apart.
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>

#include "core/bf16.h"
#include "core/tensor.h"

namespace xlstm::test {

class EmulatedTiles {
 public:
  EmulatedTiles() { set_up(); }
  ~EmulatedTiles() { give_back(); }
  EmulatedTiles(const EmulatedTiles&) = delete;
  EmulatedTiles& operator=(const EmulatedTiles&) = delete;

  static void set_up() {
    require(!state().configured);  // tiles within tiles
    state() = {.configured = true};
  }
  static void give_back() { state().configured = false; }

  template <int t>
  static void zero() {
    std::memset(tile<t>(), 0, kBytes);
  }
  template <int t>
  static void load(const void* from, i64 stride) {
    for (int r = 0; r < kRows; ++r)
      std::memcpy(tile<t>() + r * kRowBytes, static_cast<const std::byte*>(from) + r * stride, kRowBytes);
  }
  template <int t>
  static void store(float* to, i64 stride) {
    for (int r = 0; r < kRows; ++r)
      std::memcpy(reinterpret_cast<std::byte*>(to) + r * stride, tile<t>() + r * kRowBytes, kRowBytes);
  }
  template <int c, int a, int b>
  static void multiply() {
    float left[kRows][kTerms], right[kRows][kTerms];  // right: row p has terms 2 p and 2 p + 1 of every column
    widen(left, tile<a>());
    widen(right, tile<b>());
    for (int m = 0; m < kRows; ++m) {
      float even[kRows] = {}, odd[kRows] = {}, sums[kRows];
      for (int p = 0; p < kRows; ++p)
        for (int n = 0; n < kRows; ++n) {
          even[n] = flushed(std::fma(left[m][2 * p], right[p][2 * n], even[n]));
          odd[n] = flushed(std::fma(left[m][2 * p + 1], right[p][2 * n + 1], odd[n]));
        }
      std::byte* const row = tile<c>() + m * kRowBytes;
      std::memcpy(sums, row, kRowBytes);
      for (int n = 0; n < kRows; ++n) sums[n] = flushed(flushed(sums[n]) + flushed(even[n] + odd[n]));
      std::memcpy(row, sums, kRowBytes);
    }
  }

 private:
  static constexpr int kRows = 16, kTerms = 32, kRowBytes = 64, kBytes = kRows * kRowBytes;
  struct State {
    bool configured = false;
    std::byte tiles[8][kBytes] = {};
  };
  static State& state() {
    thread_local State s;
    return s;
  }
  static void require(bool ok) {
    if (!ok) std::abort();
  }
  template <int t>
  static std::byte* tile() {
    static_assert(t >= 0 && t < 8);
    require(state().configured);  // or the processor raises #UD
    return state().tiles[t];
  }
  static void widen(float (&to)[kRows][kTerms], const std::byte* tile) {
    bf16 from[kRows][kTerms];
    std::memcpy(from, tile, sizeof from);
    for (int r = 0; r < kRows; ++r)
      for (int i = 0; i < kTerms; ++i) to[r][i] = flushed(to_float(from[r][i]));
  }
  static float flushed(float x) { return std::abs(x) < std::numeric_limits<float>::min() ? std::copysign(0.0f, x) : x; }
};

}  // namespace xlstm::test
