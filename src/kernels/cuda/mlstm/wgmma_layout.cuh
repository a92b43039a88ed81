#pragma once
// The scan with wgmma and bulk copies (sm_90a): what it is given, where things lie in shared memory, and the barriers
// that hand them around. docs/kernels.md has the picture.
#include "kernels/cuda/dialect_hopper.h"
#include "kernels/cuda/mlstm/scan_layout.cuh"

namespace xlstm::mlstm {

using namespace dialect;

constexpr int kWgmmaThreads = 384;  // a warpgroup for scores and copies, two for the state

struct WgmmaScan {
  TensorMap x, w, u, y;  // (sequences, tokens, columns); boxes of 64 tokens; y: of kRowTokens
  TensorMap n;           // forward with normaliser: (sequences and heads, 8 chunks, dx), boxes of 8 rows
  TensorMap dot_with;    // dq, dk
  Scan scan;
};

constexpr std::uint32_t kPanelBytes = 8192;  // 64 tokens by 64 columns

// Tiles of x and w take turns in a ring: x of chunk 0, w of chunk 0, x of chunk 1, ... With a normaliser every panel of
// w has eight more rows, n split into bf16: one product gives x w^T and x n.
template <int kDx, bool kNormalize>
struct WgmmaLayout {
  static constexpr int kParts = kDx > 256 ? 2 : 1, kPart = kDx / kParts;  // columns of x of one state warpgroup
  // Tokens of a chunk whose y a state warpgroup finishes: all, of 64 columns of u, or half, where both have the same.
  static constexpr int kRowTokens = 64 / kParts;
  static constexpr int kSlice = 128 / kParts, kPanels = kDx / 64, kSlicePanels = kSlice / 64;
  static constexpr int kTiles = kParts == 2 ? 3 : 4;
  static constexpr int kScores = kDx > 384 ? 1 : 2;  // buffers of P
  static constexpr int kVectors = kNormalize ? 6 : 5;
  // Registers of a thread, of scores and of the state. They share what the CTA was launched with and no more: 168 each.
  static constexpr int kScoreRegisters = kPart > 192 ? 72 : 88, kStateRegisters = kPart > 192 ? 216 : 208;
  static_assert(kScoreRegisters + 2 * kStateRegisters <= 3 * launch_registers(kWgmmaThreads));
  static constexpr std::uint32_t kPanel = kNormalize ? kPanelBytes + 1024 : kPanelBytes, kTile = kPanels * kPanel,
                                 kU = kSlicePanels * kPanelBytes, kStage = kVectors * 256;
  static constexpr std::uint32_t tiles = 0, u = tiles + kTiles * kTile, p = u + 2 * kU,
                                 out = p + kScores * kPanelBytes,  // rows of y; before, between parts: f32
      vectors = out + kU, inverse = vectors + 2 * kStage, barriers = inverse + (kNormalize ? 256 * kScores : 0),
                                 kBytes = barriers + 8 * (2 * kTiles + 2 + 2 * kScores);
  static_assert(kBytes <= wgmma_shared_bytes());
  static_assert(kParts == 1 || !kNormalize);

  XL_DEVICE static std::uint32_t tile(int number) {
    return shared_begin() + tiles + static_cast<std::uint32_t>(number % kTiles) * kTile;
  }
  XL_DEVICE static std::uint32_t u_tile(int i) { return shared_begin() + u + static_cast<std::uint32_t>(i & 1) * kU; }
  XL_DEVICE static std::uint32_t p_tile(int i) {
    return shared_begin() + p + static_cast<std::uint32_t>(i % kScores) * kPanelBytes;
  }
  // In a stage: read, write, row exponents, column exponents, segments, maxima; 64 each.
  XL_DEVICE static std::uint32_t vector(int i, int which) {
    return shared_begin() + vectors + static_cast<std::uint32_t>(i & 1) * kStage +
           static_cast<std::uint32_t>(which) * 256;
  }
  XL_DEVICE static std::uint32_t inverses(int i) {
    return shared_begin() + inverse + static_cast<std::uint32_t>(i % kScores) * 256;
  }
  XL_DEVICE static std::uint32_t barrier(int number) {
    return shared_begin() + barriers + static_cast<std::uint32_t>(number) * 8;
  }
  // Full: who fills has arrived, and the bytes. Empty: all who read have arrived.
  XL_DEVICE static std::uint32_t tile_full(int number) { return barrier(number % kTiles); }
  XL_DEVICE static std::uint32_t tile_empty(int number) { return barrier(kTiles + number % kTiles); }
  XL_DEVICE static std::uint32_t u_full(int i) { return barrier(2 * kTiles + (i & 1)); }
  XL_DEVICE static std::uint32_t p_full(int i) { return barrier(2 * kTiles + 2 + i % kScores); }
  XL_DEVICE static std::uint32_t p_empty(int i) { return barrier(2 * kTiles + 2 + kScores + i % kScores); }
  // Of the round in which a buffer is used; one who empties it waits for the round before.
  XL_DEVICE static int tile_round(int number) { return number / kTiles & 1; }
  XL_DEVICE static int u_round(int i) { return i >> 1 & 1; }
  XL_DEVICE static int p_round(int i) { return i / kScores & 1; }

  XL_DEVICE static void make_barriers() {
    if (thread_index() != 0) return;
    constexpr int kWarps = kWgmmaThreads / 32;
    for (int t = 0; t < kTiles; ++t) {
      make_barrier(tile_full(t), 1);
      make_barrier(tile_empty(t), kWarps * cluster_size());
    }
    for (int i = 0; i < 2; ++i) make_barrier(u_full(i), 1);
    for (int i = 0; i < kScores; ++i) {
      make_barrier(p_full(i), 4);
      make_barrier(p_empty(i), 8);
    }
    barriers_are_made();
  }
};

enum VectorOfStage { kReadVector, kWriteVector, kRowVector, kColumnVector, kSegmentVector, kMaxVector };

XL_DEVICE int slice_index() { return static_cast<int>(block_index().x); }

}  // namespace xlstm::mlstm
