#pragma once
// More words of the dialect, for sm_90a alone: a kernel that uses them is compiled for nothing else.
//
// clusters         cluster_rank(), cluster_size(), sync_cluster(): all threads of all CTAs
// warpgroups       four warps: warpgroup_index(), warpgroup_thread() 0 to 127; give_registers<N>(),
// take_registers<N>():
//                  all of a warpgroup sets how many registers its threads have
// barriers         sync_threads(id, count), arrive_threads(id, count): named ones, 1 to 15, of whole warps.
//                  In shared memory, 8 bytes: make_barrier(a, arrivals), barriers_are_made() behind the last, and then
//                  sync_cta() or sync_cluster(); arrive(a), arrive_in_cluster(a): one arrival for the whole warp, here
//                  or at every CTA of the cluster, for which nothing that was written is visible by it;
//                  arrive_expecting(a, bytes): of one thread, one arrival, and the phase wants so many bytes, too;
//                  wait(a, parity): until the phase of that parity is over
// bulk copies      of one thread. load_box(to, map, {column, row, plane}, barrier), load_box_to_cluster(...), to every
//                  CTA's shared memory and barrier at these addresses; load_bytes(to, from, bytes, barrier): multiples
//                  of 16. prefetch_box(map, {column, row, plane}): to L2. store_box(map, {column, row, plane}, from),
//                  commit_stores(), wait_stores<N>(): all but the newest N groups have read shared memory. A box has
//                  rows of 64 bf16, swizzled, aligned to 1024; TensorMap parameters are XL_GRID_CONSTANT;
//                  make_tensor_map() is of the host (tensor_map.h)
// asynchronous     publish_to_async(): what this thread wrote to shared memory may be read by matrix instructions and
//                  bulk stores, once a barrier has told them
// matrices         store_matrices(a, r), store_matrices_transposed(a, r): the opposite of load_matrices
// products         of a warpgroup, m64nNk16, c: float[N / 2]; b, and a where it is not in registers, are descriptors:
//                  rows_descriptor(a): rows of 64 elements of k, panels of 128 bytes wide; columns_descriptor(a,
//                  panel): transposed, 64 elements of m or n in a row, then the next panel `panel` bytes on.
//                  wgmma_fence() before the first, and behind every wait; wgmma<Transpose b>(c, a[4], b, accumulate),
//                  wgmma_shared<Transpose a, Transpose b>(c, a, b, accumulate); wgmma_commit(); wgmma_wait<N>(): all
//                  but the newest N groups are done. settled(c), settled(a) stand between a wait and the first use
//                  of registers, and between their last use and a fence
#include "kernels/cuda/dialect.h"
#if defined(__CUDACC__)
#include "kernels/cuda/dialect_gpu_hopper.h"
#else
#include "kernels/cuda/dialect_emulator_hopper.h"
#endif
