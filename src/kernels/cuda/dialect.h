#pragma once
// The only words in which the large kernels are written. One header turns them into PTX, the other into calls of a CPU
// emulator that looks for races, deadlocks and unwritten memory; so the same sources run in tests on a machine without
// a GPU. Kernels hold no assembly, no CUDA built-ins and no pointers into shared memory.
//
// threads          thread_index(), lane_index(), warp_index(), block_index() -> {x, y, z}; a CTA has one dimension
// barriers         sync_cta(): all threads. Everything named "warp" wants all 32 lanes
// shared memory    32-bit addresses from shared_begin(), aligned to 1024; shared_load<T>(a), shared_store(a, value): 4,
//                  8 or 16 bytes
// global memory    global_load(p), global_store(p, value)
// copies           copy_async_16(shared, global, valid): 16 bytes, zeros behind the first `valid`;
//                  commit_copies(); wait_copies<N>(): all but the newest N groups have landed, for this thread
// matrices         load_matrices(r, a), load_matrices_transposed(r, a): four 8x8 of bf16, row i of matrix j from lane
//                  8 j + i's address; mma_16x8x16(c, a, b0, b1): c += a b, f32
// lanes            shuffle_xor(x, mask), shuffle_up(x, n), shuffle_down(x, n), shuffle_from(x, lane); ballot(yes): bit
// l
//                  is lane l's answer
// numbers          pack_bf16(lo, hi), multiply_bf16x2(a, b), low_half(x), high_half(x), exp2_fast(x); count_bits(x),
//                  lowest_bit(x): its index, of x != 0
#include "core/bf16.h"

namespace xlstm::dialect {

// Of a thread, where one CTA of so many has a multiprocessor to itself.
constexpr int launch_registers(int threads) { return 65536 / threads / 8 * 8; }

}  // namespace xlstm::dialect

#if defined(__CUDACC__)
#include "kernels/cuda/dialect_gpu.h"
#else
#include "kernels/cuda/dialect_emulator.h"
#endif
