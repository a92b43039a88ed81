#pragma once
// Where things lie in shared memory during a scan, and how they get there.
#include "kernels/cuda/dialect.h"
#include "kernels/cuda/mlstm/parameters.h"
#include "kernels/cuda/mlstm/workspace.h"

namespace xlstm::mlstm {

using namespace dialect;

enum class Pass { forward, dq, dk, dv };
constexpr bool in_reverse(Pass pass) { return pass == Pass::dk || pass == Pass::dv; }

template <int kDx>
struct ScanLayout {
  static constexpr int kParts = kDx > 256 ? 2 : 1, kPartWidth = kDx / kParts;
  static constexpr int kStrips = kThreads / 32 / kParts, kSlice = 16 * kStrips;  // columns of u of one CTA
  // Addresses in shared memory. Tiles of 64 rows, in panels of 64 columns (8 KiB), swizzled.
  static constexpr std::uint32_t x = 0, w = x + 128 * kDx, u = w + 128 * kDx, p = u + 128 * kSlice;
  static constexpr std::uint32_t partial = p + 8192;  // y of the other part: f32 (kSlice, 64)
  static constexpr std::uint32_t vectors = partial + (kParts == 2 ? 256 * kSlice : 0);
  static constexpr std::uint32_t read = vectors, write = read + 256, row = write + 256, column = row + 256,
                                 segment = column + 256, max = segment + 256;
  static constexpr std::uint32_t sums = max + 256;      // row sums of P: 2 x 64
  static constexpr std::uint32_t query_n = sums + 512;  // q n: 64
  static constexpr std::uint32_t inverse = query_n + 256;
  static constexpr std::uint32_t dots = inverse + 256;  // kStrips x 64
  static constexpr std::uint32_t n = dots + 256 * kStrips;
  static constexpr std::uint32_t kBytes = n + 4 * kDx;
  static_assert(kBytes == scan_shared_bytes(kDx));
};

// Eight bf16 (16 bytes) number `piece` of a tile's row.
XL_DEVICE std::uint32_t tile_address(std::uint32_t tile, int row, int piece) {
  return tile + static_cast<std::uint32_t>((piece >> 3) * 8192 + row * 128 + (((piece & 7) ^ (row & 7)) << 4));
}

struct alignas(16) Piece {
  std::uint32_t words[4];
};

template <int kWidth>
XL_DEVICE void load_tile(std::uint32_t tile, const bf16* head, i64 stride, int width, int first_column, int first_token,
                         int tokens) {
  constexpr int kPieces = kWidth / 8;
  for (int i = thread_index(); i < kChunk * kPieces; i += kThreads) {
    const int row = i / kPieces, piece = i % kPieces, column = first_column + piece * 8;
    const bool valid = first_token + row < tokens && column < width;
    const bf16* from = valid ? head + (first_token + row) * stride + column : head;
    copy_async_16(tile_address(tile, row, piece), from, valid ? 16 : 0);
  }
}

template <int kDx>
XL_DEVICE void load_vectors(const Scan& s, i64 head, i64 first) {
  using L = ScanLayout<kDx>;
  const i64 padded = chunks_of(s.shape.tokens) * kChunk;
  const int t = thread_index();
  if (t >= kChunk) return;
  const i64 at = head * padded + first + t;
  const std::uint32_t offset = static_cast<std::uint32_t>(t) * 4;
  shared_store(L::read + offset, global_load(s.read + at));
  shared_store(L::write + offset, global_load(s.write + at));
  shared_store(L::row + offset, global_load(s.row_exponent + at));
  shared_store(L::column + offset, global_load(s.column_exponent + at));
  shared_store(L::segment + offset, global_load(s.segment + at));
  if (s.max) shared_store(L::max + offset, global_load(s.max + at));
}

XL_DEVICE float vector_at(std::uint32_t vector, int i) {
  return shared_load<float>(vector + static_cast<std::uint32_t>(i) * 4);
}

}  // namespace xlstm::mlstm
