#pragma once
// The dialect on a CPU. See dialect.h and emulator/block.h.
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "core/bf16.h"
#include "kernels/cuda/emulator/block.h"
#include "kernels/cuda/emulator/global_memory.h"

#define XL_DEVICE inline
#define XL_KERNEL(threads, ctas_per_sm) inline void
#define XL_UNROLL
#define XL_ROLLED

namespace xlstm::dialect {

using emulator::current_block;

inline int thread_index() { return current_block().thread(); }
inline int lane_index() { return current_block().lane(); }
inline int warp_index() { return current_block().thread() / emulator::kWarpSize; }
inline emulator::Index3 block_index() { return current_block().index(); }
inline void sync_cta() { current_block().barrier(); }
inline void sync_warp() {
  current_block().collective("sync_warp", nullptr, [](const emulator::LaneArguments&) {});
}

inline std::uint32_t shared_begin() { return emulator::SharedMemory::kBegin; }
template <class T>
T shared_load(std::uint32_t address) {
  T value;
  current_block().shared_read(address, &value, sizeof value);
  return value;
}
template <class T>
void shared_store(std::uint32_t address, const T& value) {
  current_block().shared_write(address, &value, sizeof value);
}
template <class T>
T global_load(const T* p) {
  emulator::check_global(p, sizeof(T), alignof(T));
  return *p;
}
template <class T>
void global_store(T* p, const T& value) {
  emulator::check_global(p, sizeof(T), alignof(T));
  *p = value;
}

inline void copy_async_16(std::uint32_t shared, const void* global, std::uint32_t valid) {
  if (valid > 0) emulator::check_global(global, valid, 16);
  current_block().copy_async(shared, global, valid);
}
inline void commit_copies() { current_block().commit_copies(); }
template <int N>
void wait_copies() {
  current_block().wait_copies(N);
}

namespace detail {

struct MatrixLoad {
  std::uint32_t address;
  std::uint32_t* registers;
};

// Register j of a lane holds two neighbouring elements of matrix j: of row lane / 4, or transposed of column lane / 4.
inline void load_matrices(const char* name, std::uint32_t* registers, std::uint32_t address, bool transposed) {
  MatrixLoad mine{address, registers};
  emulator::Block& block = current_block();
  block.collective(name, &mine, [&](const emulator::LaneArguments& lanes) {
    for (int matrix = 0; matrix < 4; ++matrix) {
      std::uint16_t tile[8][8];
      for (int row = 0; row < 8; ++row) {
        const int lane = matrix * 8 + row;
        const std::uint32_t from = static_cast<MatrixLoad*>(lanes[static_cast<std::size_t>(lane)])->address;
        std::memcpy(tile[row], block.shared_view(lane, from, 16), 16);
      }
      for (int lane = 0; lane < 32; ++lane) {
        const int i = lane / 4, j = lane % 4 * 2;
        const std::uint32_t lo = transposed ? tile[j][i] : tile[i][j],
                            hi = transposed ? tile[j + 1][i] : tile[i][j + 1];
        static_cast<MatrixLoad*>(lanes[static_cast<std::size_t>(lane)])->registers[matrix] = lo | hi << 16;
      }
    }
  });
}

struct Product {
  float* c;
  const std::uint32_t* a;
  std::uint32_t b[2];
};

}  // namespace detail

inline float low_half(std::uint32_t x) { return to_float({static_cast<std::uint16_t>(x)}); }
inline float high_half(std::uint32_t x) { return to_float({static_cast<std::uint16_t>(x >> 16)}); }
inline std::uint32_t pack_bf16(float lo, float hi) {
  return to_bf16(lo).bits | static_cast<std::uint32_t>(to_bf16(hi).bits) << 16;
}
inline std::uint32_t multiply_bf16x2(std::uint32_t a, std::uint32_t b) {
  return pack_bf16(low_half(a) * low_half(b), high_half(a) * high_half(b));
}
inline float exp2_fast(float x) { return std::exp2(x); }

inline void load_matrices(std::uint32_t (&r)[4], std::uint32_t address) {
  detail::load_matrices("load_matrices", r, address, false);
}
inline void load_matrices_transposed(std::uint32_t (&r)[4], std::uint32_t address) {
  detail::load_matrices("load_matrices_transposed", r, address, true);
}

// Fragments of mma.m16n8k16 (PTX ISA, "Matrix Fragments for mma.m16n8k16 with floating point type").
inline void mma_16x8x16(float (&c)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1) {
  detail::Product mine{c, a, {b0, b1}};
  current_block().collective("mma_16x8x16", &mine, [](const emulator::LaneArguments& lanes) {
    float A[16][16], B[16][8];
    for (int lane = 0; lane < 32; ++lane) {
      const auto& p = *static_cast<detail::Product*>(lanes[static_cast<std::size_t>(lane)]);
      const int group = lane / 4, pair = lane % 4 * 2;
      for (int part = 0; part < 4; ++part) {
        const int row = group + part % 2 * 8, col = pair + part / 2 * 8;
        A[row][col] = low_half(p.a[part]);
        A[row][col + 1] = high_half(p.a[part]);
      }
      for (int part = 0; part < 2; ++part) {
        B[pair + part * 8][group] = low_half(p.b[part]);
        B[pair + part * 8 + 1][group] = high_half(p.b[part]);
      }
    }
    float D[16][8] = {};
    for (int i = 0; i < 16; ++i)
      for (int k = 0; k < 16; ++k)
        for (int j = 0; j < 8; ++j) D[i][j] += A[i][k] * B[k][j];
    for (int lane = 0; lane < 32; ++lane) {
      float* out = static_cast<detail::Product*>(lanes[static_cast<std::size_t>(lane)])->c;
      const int group = lane / 4, pair = lane % 4 * 2;
      out[0] += D[group][pair];
      out[1] += D[group][pair + 1];
      out[2] += D[group + 8][pair];
      out[3] += D[group + 8][pair + 1];
    }
  });
}

namespace detail {

template <class T>
struct Shuffle {
  T value, result;
};

template <class T, class F>
T shuffle(const char* name, T x, F&& source) {
  Shuffle<T> mine{x, x};
  current_block().collective(name, &mine, [&](const emulator::LaneArguments& lanes) {
    for (int lane = 0; lane < 32; ++lane) {
      const int from = source(lane);
      static_cast<Shuffle<T>*>(lanes[static_cast<std::size_t>(lane)])->result =
          static_cast<Shuffle<T>*>(lanes[static_cast<std::size_t>(from < 0 || from > 31 ? lane : from)])->value;
    }
  });
  return mine.result;
}

}  // namespace detail

template <class T>
T shuffle_xor(T x, int mask) {
  return detail::shuffle("shuffle_xor", x, [mask](int lane) { return lane ^ mask; });
}
template <class T>
T shuffle_up(T x, int n) {
  return detail::shuffle("shuffle_up", x, [n](int lane) { return lane - n; });
}
template <class T>
T shuffle_down(T x, int n) {
  return detail::shuffle("shuffle_down", x, [n](int lane) { return lane + n; });
}
template <class T>
T shuffle_from(T x, int source) {
  return detail::shuffle("shuffle_from", x, [source](int) { return source; });
}

inline std::uint32_t ballot(bool yes) {
  struct Vote {
    bool yes;
    std::uint32_t all;
  } mine{yes, 0};
  current_block().collective("ballot", &mine, [](const emulator::LaneArguments& lanes) {
    std::uint32_t all = 0;
    for (std::size_t lane = 0; lane < 32; ++lane)
      all |= static_cast<std::uint32_t>(static_cast<Vote*>(lanes[lane])->yes) << lane;
    for (void* lane : lanes) static_cast<Vote*>(lane)->all = all;
  });
  return mine.all;
}

inline int count_bits(std::uint32_t x) { return std::popcount(x); }
inline int lowest_bit(std::uint32_t x) { return std::countr_zero(x); }

}  // namespace xlstm::dialect
