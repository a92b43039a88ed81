#pragma once
// Where things lie in shared memory during a scan, and how they get there.
#include "kernels/cuda/dialect.h"
#include "kernels/cuda/mlstm/parameters.h"
#include "kernels/cuda/mlstm/workspace.h"

namespace xlstm::mlstm {

using namespace dialect;

enum class Pass { forward, dq, dk, dv };
constexpr bool in_reverse(Pass pass) { return pass == Pass::dk || pass == Pass::dv; }
constexpr bool has_dots(Pass pass) { return pass == Pass::dq || pass == Pass::dk; }

template <int kDx>
struct ScanLayout {
  static constexpr int kParts = kDx > 256 ? 2 : 1, kPartWidth = kDx / kParts;
  static constexpr int kStrips = kThreads / 32 / kParts, kSlice = 16 * kStrips;  // columns of u of one CTA
  // Shared memory. Tiles of 64 rows, in panels of 64 columns (8 KiB), swizzled, and over x, once it has been read, f32
  // y of the other part (kSlice, 64); vectors; row sums of P, 2 x 64; row dots, kStrips x 64.
  static constexpr std::uint32_t kTile = 128 * kDx, kU = 128 * kSlice, kP = 8192, kVector = 256, kDots = 256 * kStrips;
  static_assert(kParts == 1 || 256 * kSlice <= kTile);
  XL_DEVICE static std::uint32_t x() { return shared_begin(); }
  XL_DEVICE static std::uint32_t w() { return x() + kTile; }
  XL_DEVICE static std::uint32_t u() { return w() + kTile; }
  XL_DEVICE static std::uint32_t p() { return u() + kU; }
  XL_DEVICE static std::uint32_t partial() { return x(); }
  XL_DEVICE static std::uint32_t read() { return p() + kP; }
  XL_DEVICE static std::uint32_t write() { return read() + kVector; }
  XL_DEVICE static std::uint32_t row() { return write() + kVector; }
  XL_DEVICE static std::uint32_t column() { return row() + kVector; }
  XL_DEVICE static std::uint32_t segment() { return column() + kVector; }
  XL_DEVICE static std::uint32_t max() { return segment() + kVector; }
  XL_DEVICE static std::uint32_t sums() { return max() + kVector; }
  XL_DEVICE static std::uint32_t query_n() { return sums() + 2 * kVector; }
  XL_DEVICE static std::uint32_t inverse() { return query_n() + kVector; }
  XL_DEVICE static std::uint32_t dots() { return inverse() + kVector; }
  XL_DEVICE static std::uint32_t n() { return dots() + kDots; }
  static constexpr std::uint32_t kBytes = 2 * kTile + kU + kP + 10 * kVector + kDots + 4 * kDx;
  static_assert(kBytes == scan_shared_bytes(kDx));
};

// Eight bf16 (16 bytes) number `piece` of a tile's row.
XL_DEVICE std::uint32_t tile_address(std::uint32_t tile, int row, int piece) {
  return tile + static_cast<std::uint32_t>((piece >> 3) * 8192 + row * 128 + (((piece & 7) ^ (row & 7)) << 4));
}

// A square of 16 x 16 at (16 row, 16 column) of a tile, for load_matrices. Its four 8x8: (0, 0), (8, 0), (0, 8), (8, 8)
// by rows_first(), (0, 0), (0, 8), (8, 0), (8, 8) by columns_first(), as (row, column). What depends on the lane is one
// number; the swizzle turns it by the column, and all else are constants, so that few registers hold addresses.
XL_DEVICE std::uint32_t rows_first() { return tile_address(0, lane_index() & 15, lane_index() >> 4); }
XL_DEVICE std::uint32_t columns_first() {
  return tile_address(0, (lane_index() & 7) + ((lane_index() >> 4) << 3), (lane_index() >> 3) & 1);
}
XL_DEVICE std::uint32_t square_address(std::uint32_t tile, std::uint32_t lane, int row, int column) {
  return tile + (lane ^ static_cast<std::uint32_t>((column & 3) << 5)) +
         static_cast<std::uint32_t>((column >> 2) * 8192 + row * 2048);
}

struct alignas(16) Piece {
  std::uint32_t words[4];
};

template <int kWidth>
XL_DEVICE void load_tile(std::uint32_t tile, const bf16* head, i64 stride, int width, int first_column, int first_token,
                         int tokens) {
  constexpr int kPieces = kWidth / 8;
  XL_ROLLED
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
  shared_store(L::read() + offset, global_load(s.read + at));
  shared_store(L::write() + offset, global_load(s.write + at));
  shared_store(L::row() + offset, global_load(s.row_exponent + at));
  shared_store(L::column() + offset, global_load(s.column_exponent + at));
  shared_store(L::segment() + offset, global_load(s.segment + at));
  if (s.max) shared_store(L::max() + offset, global_load(s.max + at));
}

// The chunks that a CTA goes through, in the order of the pass: of piece block_index().z.
struct Walk {
  int piece, begin, end, chunks;

  XL_DEVICE explicit Walk(const Scan& s) : piece(static_cast<int>(block_index().z)) {
    chunks = static_cast<int>(chunks_of(s.shape.tokens));
    const int each = static_cast<int>(piece_chunks(chunks, s.pieces));
    begin = piece * each < chunks ? piece * each : chunks;
    end = begin + each < chunks ? begin + each : chunks;
  }
  template <Pass kPass>
  XL_DEVICE int chunk(int i) const {
    return in_reverse(kPass) ? chunks - 1 - i : i;
  }
};

// The state before a piece, or none: zero.
XL_DEVICE const float* first_of(const Scan& s, int piece) {
  const i64 size = static_cast<i64>(s.shape.sequences) * s.shape.heads * s.shape.qk_dim * s.shape.v_dim;
  return piece == 0 ? s.first : s.piece_c + (piece - 1) * size;
}
XL_DEVICE const float* first_n_of(const Scan& s, int piece) {
  const i64 size = static_cast<i64>(s.shape.sequences) * s.shape.heads * s.shape.qk_dim;
  return piece == 0 ? s.first_n : s.piece_n + (piece - 1) * size;
}

XL_DEVICE bf16* head_begin(const Scan& s, const Matrix& m, i64 head, int width) {
  return m.data + head / s.shape.heads * s.shape.tokens * m.stride + head % s.shape.heads * width;
}

XL_DEVICE float vector_at(std::uint32_t vector, int i) {
  return shared_load<float>(vector + static_cast<std::uint32_t>(i) * 4);
}

}  // namespace xlstm::mlstm
