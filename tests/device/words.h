#pragma once
// The dialect's words, each in a small kernel: what a device makes of them. Kernels are built as those of
// src/kernels/cuda, for a GPU or for the emulator. Pointers are of the device.
#include "core/bf16.h"
#include "core/context.h"

namespace xlstm::test {

// --- words.cu: any GPU; one warp

// Twelve results per lane l, whose x is l + 1 (words_test.cpp says which).
constexpr int kLaneResults = 12;
void run_lane_words(Context& ctx, float* out);

// 32 pieces of 16 bytes, of which lane l's has l % 17 valid bytes; what shared memory then holds.
void run_copy_words(Context& ctx, std::uint32_t* out, const std::uint32_t* from);

// a (16, 16) and b (8, 16) by rows, in shared memory: what load_matrices and load_matrices_transposed give of a, 4 x 32
// each; c (16, 8) = a b^T.
void run_matrix_words(Context& ctx, std::uint32_t* loaded, std::uint32_t* transposed, float* c, const bf16* a,
                      const bf16* b);

// --- words_wgmma.cu: sm_90a

// c (64, columns) = a b over 32 of k. a is (64, 32), or (32, 64) if transposed; b is (columns, 32), or (32, columns).
struct ProductWords {
  float* c = nullptr;
  const bf16 *a = nullptr, *b = nullptr;
  int columns = 64;  // with a in registers: 64, 128, 192, 256; in shared memory: 32, 64, 72
  bool registers = false, transposed_a = false, transposed_b = false;
};
void run_product_words(Context& ctx, const ProductWords& p);

// r: 4 x 32 registers; what shared memory holds behind store_matrices and store_matrices_transposed, 128 words each.
void run_store_words(Context& ctx, std::uint32_t* stored, std::uint32_t* transposed, const std::uint32_t* r);

// Boxes of 16 rows and 64 columns of x (planes, rows, columns), rows of `stride` elements.
struct BoxWords {
  bf16* x = nullptr;
  std::int64_t columns = 0, rows = 0, planes = 0, stride = 0;
  int column = 0, row = 0, plane = 0;  // of the first box; those of a cluster follow each other by rows
  int cluster = 1;
};
constexpr int kBoxRows = 16, kBoxWords = kBoxRows * 32;
// Every CTA loads its box for all of the cluster: the shared memory of each, cluster * kBoxWords.
void run_box_loads(Context& ctx, const BoxWords& p, std::uint32_t* out);
// Writes `from`, kBoxWords, as one box.
void run_box_store(Context& ctx, const BoxWords& p, const std::uint32_t* from);
// `bytes`: at most 4096. Copied through shared memory.
void run_byte_loads(Context& ctx, std::uint32_t* out, const std::uint32_t* from, int bytes);

// Barriers of a cluster, handed around `rounds` times: each CTA writes a number into its own shared memory when all
// have read the last one. out: per CTA and round the number that it saw, or -1.
void run_barrier_words(Context& ctx, std::int32_t* out, int cluster, int rounds);
// Three warpgroups share registers anew and pass a number on by named barriers; out: 128 x 3.
void run_warpgroup_words(Context& ctx, std::int32_t* out);

}  // namespace xlstm::test
