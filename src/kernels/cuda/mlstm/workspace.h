#pragma once
// Which kernel computes a cell, and how its workspace is carved up. Plain C++: `xlstm plan` reads it without a GPU.
#include "kernels/cell.h"
#include "kernels/cuda/mlstm/parameters.h"

namespace xlstm::mlstm {

// The smallest instantiated width that holds x, or 0.
constexpr int kScanWidths[] = {64, 128, 192, 256, 384, 512};
constexpr int scan_width(int dx) {
  for (const int width : kScanWidths)
    if (dx <= width) return width;
  return 0;
}
constexpr int slice_of(int scan_width) { return scan_width > 256 ? 64 : 128; }
constexpr int slices_of(int du, int scan_width) { return (du + slice_of(scan_width) - 1) / slice_of(scan_width); }

// The next `count` floats, 256-byte aligned; null while measuring.
inline float* take_floats(float* memory, i64& taken, i64 count) {
  float* const at = memory ? memory + taken : nullptr;
  taken += (count + 63) / 64 * 64;
  return at;
}

// Memory of one call of the scans: the portable ones, or those with wgmma.
struct CellWorkspace {
  GateVectors vectors;
  bf16* normalizer_rows = nullptr;  // wgmma, forward: normalizer_states.cuh
  bf16* scaled_gradient = nullptr;
  float *dot_q = nullptr, *dot_k = nullptr, *anchors = nullptr, *anchor_dot = nullptr;
  float *piece_c = nullptr, *piece_n = nullptr, *piece_dc = nullptr;  // states before pieces: Scan
  int pieces = 1;
  int dot_parts = 0, anchor_parts = 0;  // sums that are left to add: (dot_parts, B H, padded T)
  i64 floats = 0;

  CellWorkspace(const Shape& shape, CellKernel kernel, bool backward, float* memory) {
    const bool wgmma = uses_wgmma(kernel);
    const i64 heads = static_cast<i64>(shape.sequences) * shape.heads, chunks = chunks_of(shape.tokens);
    const i64 vector = heads * chunks * kChunk;
    const auto take = [&](i64 count) { return take_floats(memory, floats, count); };
    vectors.read = take(vector);
    vectors.write = take(vector);
    vectors.query = take(vector);
    vectors.key = take(vector);
    vectors.max = take(vector);
    vectors.segment = reinterpret_cast<int*>(take(vector));
    vectors.decay = take(heads * chunks);
    pieces = pieces_of(chunks, heads * slices_of(shape.v_dim, scan_width(shape.qk_dim)));
    piece_c = take((pieces - 1) * heads * shape.qk_dim * shape.v_dim);
    if (!backward) {
      if (shape.normalize && !wgmma) piece_n = take((pieces - 1) * heads * shape.qk_dim);
      if (wgmma && shape.normalize) normalizer_rows = reinterpret_cast<bf16*>(take(heads * chunks * 4 * shape.qk_dim));
      return;
    }
    piece_dc = take((pieces - 1) * heads * shape.qk_dim * shape.v_dim);
    const int width = scan_width(shape.v_dim), slices = slices_of(shape.qk_dim, width);
    dot_parts = wgmma ? slices * slice_of(width) / 16 : slices;
    anchor_parts = wgmma ? slices * 8 : slices;
    const i64 anchors_needed = inner_anchors(shape.tokens) + 1;
    if (shape.normalize)
      scaled_gradient = reinterpret_cast<bf16*>(
          take((static_cast<i64>(shape.sequences) * shape.tokens * shape.heads * shape.v_dim + 1) / 2));
    dot_q = take(dot_parts * vector);
    dot_k = take(dot_parts * vector);
    anchors = take(anchors_needed * heads * slices * slice_of(width) * width);
    anchor_dot = take(anchors_needed * anchor_parts * heads);
  }
};

// Of the recurrent kernel: columns of u that one CTA takes; with a normaliser one of its lanes has n.
constexpr int recurrent_columns(bool normalizer) { return normalizer ? 31 : 32; }
constexpr int kWidestRecurrentHead = 1024;

struct RecurrentWorkspace {
  float *dot_q = nullptr, *dot_k = nullptr, *end_dot = nullptr;  // (tiles, B H, T) each, and (tiles, B H)
  i64 tiles = 0, floats = 0;                                     // tiles: of K

  RecurrentWorkspace(const Shape& shape, bool backward, float* memory) {
    if (!backward) return;
    const i64 heads = static_cast<i64>(shape.sequences) * shape.heads;
    tiles = (shape.qk_dim + 31) / 32;
    dot_q = take_floats(memory, floats, tiles * heads * shape.tokens);
    dot_k = take_floats(memory, floats, tiles * heads * shape.tokens);
    end_dot = take_floats(memory, floats, tiles * heads);
  }
};

// Shared memory of a scan over x of this width; scan_layout.cuh has the parts.
constexpr int scan_shared_bytes(int width) {
  const int parts = width > 256 ? 2 : 1, strips = 8 / parts, slice = 16 * strips;
  const int tiles = 256 * width + 128 * slice + 8192;
  return tiles + 6 * 256 + 512 + 2 * 256 + 256 * strips + 4 * width;
}

// The portable kernel multiplies bf16, in pieces of 16 bytes. `shared`: what a CTA may have of shared memory.
constexpr bool portable_kernel_fits(DType type, i64 qk_dim, i64 v_dim, i64 shared) {
  const auto fits = [&](i64 dim) {
    const int width = dim <= 512 ? scan_width(static_cast<int>(dim)) : 0;
    return dim % 8 == 0 && width > 0 && scan_shared_bytes(width) <= shared;
  };
  return type == DType::bf16 && fits(qk_dim) && fits(v_dim);
}

// The scan with wgmma takes whole panels of 64 columns, and most of the shared memory of an sm_90.
constexpr i64 wgmma_shared_bytes() { return kHopperSharedBytes; }
constexpr bool wgmma_kernel_fits(DType type, i64 qk_dim, i64 v_dim, i64 shared, int architecture) {
  const auto one_of = [](i64 dim, i64 most) { return dim <= most && dim == scan_width(static_cast<int>(dim)); };
  return type == DType::bf16 && one_of(qk_dim, 256) && one_of(v_dim, 512) && architecture == 90 &&
         wgmma_shared_bytes() <= shared;
}

}  // namespace xlstm::mlstm
